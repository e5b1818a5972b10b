from __future__ import annotations

import pytest

from meshlet import errors
from meshlet.errors import ProxyError, Source

#: source, status, flag, whether the app cannot have seen the request
EXPECTED = {
    errors.BadRequest: (Source.DOWNSTREAM, 400, "DPE", False),
    errors.HeadTimeout: (Source.DOWNSTREAM, 408, "DT", False),
    errors.DownstreamGone: (Source.DOWNSTREAM, 0, "DC", False),
    errors.StreamIdle: (Source.LOCAL, 504, "SI", False),
    errors.NoRoute: (Source.LOCAL, 404, "NR", False),
    errors.NoEndpoint: (Source.UPSTREAM, 503, "UH", True),
    errors.Overflow: (Source.UPSTREAM, 503, "UO", True),
    errors.ConnectFailure: (Source.UPSTREAM, 503, "UF", True),
    errors.UpstreamReset: (Source.UPSTREAM, 503, "UC", False),
    errors.UpstreamProtocolError: (Source.UPSTREAM, 502, "UPE", False),
    errors.UpstreamTimeout: (Source.UPSTREAM, 504, "UT", False),
}


def leaves(cls: type[ProxyError] = ProxyError) -> set[type[ProxyError]]:
    found = set()
    for sub in cls.__subclasses__():
        found |= {sub} | leaves(sub)
    return {sub for sub in found if "flag" in vars(sub)}


@pytest.mark.parametrize("cls", EXPECTED, ids=lambda cls: cls.__name__)
def test_what_an_error_says(cls: type[ProxyError]) -> None:
    error = cls("what happened")
    assert (error.source, error.status, error.flag, error.unseen) == EXPECTED[cls]
    assert str(error) == "what happened"


def test_every_error_with_a_flag_is_listed_here() -> None:
    assert {cls for cls in leaves() if cls.__module__ == "meshlet.errors"} == set(EXPECTED)


@pytest.mark.parametrize("cls", [errors.BadRequest, errors.NoRoute, errors.StreamIdle])
def test_a_status_of_its_own(cls: type[errors.BadRequest | errors.NoRoute | errors.StreamIdle]) -> None:
    assert cls("large", 413).status == 413
    assert cls("plain").status == cls.status
