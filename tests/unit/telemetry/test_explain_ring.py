from __future__ import annotations

import json
from dataclasses import fields
from sys import getsizeof
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshlet.config.schema import Explain
from meshlet.config.units import Size
from meshlet.http.attempt import Attempt
from meshlet.telemetry.explain.ring import Explanations
from tests.support.explanations import EndedRequest, explained, trace


def ring(keep: int = 500, max_bytes: int = 1 << 20) -> Explanations:
    return Explanations(Explain(keep=keep, max_bytes=Size(max_bytes)))


def test_an_explanation_holds_what_is_known() -> None:
    tries = [
        Attempt("10.0.0.1:8080", "UF", "connect to 10.0.0.1:8080: connection refused", began=0.001, ended=0.002),
        Attempt("10.0.0.2:8080", "", "10.0.0.2:8080 answered 503", 503, 0.003, 0.1, None, 0.09),
        Attempt("10.0.0.3:8080", "", "", 200, 0.11, 0.5, 0.002, 0.3),
    ]
    found = explained(
        status=200,
        tries=tries,
        attempts=3,
        acted=["rate limit", "MyFilter"],
        trace=trace(b"0af7651916cd43dd8448eb211c80319c"),
        received=12,
        sent=34,
        response_seconds=0.42,
    )
    reasons = found.pop("reasons")
    assert [reason["flag"] for reason in reasons] == [""]
    assert found == {
        "time": 1_700_000_000.25,
        "request_id": "id-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "listener": "outbound",
        "direction": "outbound",
        "protocol": "HTTP/1.1",
        "client": "10.9.9.9:51234",
        "method": "GET",
        "target": "/reviews/7",
        "host": "reviews.example",
        "status": 200,
        "flag": "",
        "error": "",
        "duration": 0.5,
        "request_seconds": 0.0,
        "response_seconds": 0.42,
        "route": "shop",
        "cluster": "reviews",
        "endpoint": "10.0.0.1:8080",
        "acted": ["rate limit", "MyFilter"],
        "received": 12,
        "sent": 34,
        "attempts": 3,
        "tries_left_out": 0,
        "tries": [
            {
                "number": 1,
                "endpoint": "10.0.0.1:8080",
                "began": 0.001,
                "connection": None,
                "connect": None,
                "first_byte": None,
                "ended": 0.002,
                "status": 0,
                "flag": "UF",
                "reason": "connect to 10.0.0.1:8080: connection refused",
            },
            {
                "number": 2,
                "endpoint": "10.0.0.2:8080",
                "began": 0.003,
                "connection": "pooled",
                "connect": None,
                "first_byte": 0.09,
                "ended": 0.1,
                "status": 503,
                "flag": "",
                "reason": "10.0.0.2:8080 answered 503",
            },
            {
                "number": 3,
                "endpoint": "10.0.0.3:8080",
                "began": 0.11,
                "connection": "new",
                "connect": 0.002,
                "first_byte": 0.3,
                "ended": 0.5,
                "status": 200,
                "flag": "",
                "reason": "",
            },
        ],
    }


def test_values_are_taken_out_when_it_is_added() -> None:
    record = EndedRequest(status=503, tries=[Attempt("a:1", "UF", "x")], acted=["one"])
    kept = ring()
    kept.add(record)
    record.status, record.request_id = 200, b"other"
    assert isinstance(record.tries, list)
    record.tries.clear()
    (found,) = kept.find("id-1")
    assert (found["status"], len(found["tries"])) == (503, 1)


def test_newest_evict_oldest() -> None:
    kept = ring(keep=3)
    for number in range(5):
        kept.add(EndedRequest(request_id=b"id-%d" % number))
    assert [found["request_id"] for found in kept.recent(10)] == ["id-4", "id-3", "id-2"]
    assert [found["request_id"] for found in kept.recent(2)] == ["id-4", "id-3"]
    assert kept.recent(0) == []
    assert kept.find("id-1") == []
    assert len(kept.find("id-2")) == 1


def test_several_entries_may_share_an_id() -> None:
    kept = ring()
    for status in (502, 503, 504):
        kept.add(EndedRequest(status=status))
        kept.add(EndedRequest(request_id=None, status=status))
    assert [found["status"] for found in kept.find("id-1")] == [502, 503, 504]


def test_nothing_is_kept_where_it_is_switched_off_or_too_large() -> None:
    for kept in (ring(keep=0), ring(max_bytes=100)):
        kept.add(EndedRequest())
        assert (len(kept), kept.bytes, kept.recent(1)) == (0, 0, [])


def test_long_values_are_cut_and_found_again() -> None:
    kept = ring()
    kept.add(
        EndedRequest(
            target=b"/" + b"x" * 100_000,
            host=b"h" * 100_000,
            request_id=b"i" * 100_000,
            error="e" * 100_000,
            tries=[Attempt("a:1", "UF", "r" * 100_000)],
            acted=["F"] * 1000,
        )
    )
    assert kept.bytes < 5000
    (found,) = kept.find("i" * 100_000)
    assert {name: len(found[name]) for name in ("target", "host", "request_id", "error", "acted")} == {
        "target": 1024,
        "host": 256,
        "request_id": 256,
        "error": 512,
        "acted": 16,
    }
    assert len(found["tries"][0]["reason"]) == 512


def test_of_many_tries_the_first_and_the_last_are_kept_with_their_numbers() -> None:
    found = explained(tries=[Attempt(f"a:{number}") for number in range(1, 41)], attempts=40)
    assert found["tries_left_out"] == 24
    numbers = [each["number"] for each in found["tries"]]
    assert numbers == [*range(1, 9), *range(33, 41)]
    assert [each["endpoint"] for each in found["tries"]] == [f"a:{number}" for number in numbers]


def deep_size(value: Any, seen: set[int]) -> int:
    """What a value takes with all it refers to."""
    if id(value) in seen or value is None:
        return 0
    seen.add(id(value))
    size = getsizeof(value)
    return size + (sum(deep_size(item, seen) for item in value) if isinstance(value, tuple) else 0)


texts = st.text(max_size=700)
blobs = st.binary(max_size=1500)
seconds = st.floats(0, 1e6)
attempts = st.builds(
    Attempt,
    endpoint=st.just("10.0.0.1:8080"),
    flag=st.sampled_from(["", "UF", "UT"]),
    reason=texts,
    began=seconds,
    ended=seconds,
    connect=st.none() | seconds,
    first_byte=st.none() | seconds,
)
records = st.builds(
    EndedRequest,
    target=st.none() | blobs,
    host=st.none() | blobs,
    request_id=st.none() | blobs,
    status=st.integers(0, 999),
    flag=st.sampled_from(["", "UF", "URX,UT", "FE:SomeFilter", "unheard-of"]),
    error=texts,
    tries=st.lists(attempts, max_size=20),
    acted=st.lists(st.sampled_from(["fault", "SomeFilter"]), max_size=20),
    duration=seconds,
    trace=st.none() | st.just(trace(b"0" * 32)),
)


@given(st.lists(records, max_size=12), st.integers(0, 8), st.integers(0, 20_000))
def test_the_bounds_hold_whatever_comes(ended: list[EndedRequest], keep: int, max_bytes: int) -> None:
    kept = ring(keep, max_bytes)
    for record in ended:
        kept.add(record)
        assert len(kept) <= keep
        assert kept.bytes <= max_bytes
        shared = {id(field.default) for field in fields(EndedRequest)}  # what a config has, or the class
        assert sum(deep_size(entry, shared) for entry in kept._entries) <= kept.bytes
    assert kept.bytes == sum(entry.size for entry in kept._entries)
    found = kept.recent(100)
    assert len(found) == len(kept)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(str(value).isprintable() for each in found for value in each.values() if isinstance(value, str))


def test_secrets_in_targets_are_hidden() -> None:
    assert explained(target=b"/a?token=abc&page=2")["target"] == "/a?token=[redacted]&page=2"
    target = b"/a;jsessionid=abc?session=abc&cred=abc&userkey=abc&samlart=abc&page=2"
    assert b"abc" not in explained(target=target)["target"].encode()
    assert explained(target=b"http://me:pw@host/\x1b")["target"] == "http://[redacted]@host/\\x1b"


def test_a_secret_that_is_cut_is_hidden_too() -> None:
    found = explained(target=b"/" + b"x" * 1000 + b"?token=" + b"secret" * 100)
    assert "secret" not in found["target"]
    assert found["target"].endswith("?token=[redacted]")
