from __future__ import annotations

import pytest

from meshlet.admin.guard import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:15000", "127.0.0.1", "127.0.0.1:15000", "127.9.9.9", "[::1]", "[::1]:15000"]
)
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":15000",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1@evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "[::]",
        "[::1",
        "::1",
        "localhost:port",
        "localhost:99999",
        "localhost/evil",
        "localhost#evil",
        "localhost\t",
        "127.0.0.1,evil.example",
    ],
)
def test_anything_else(host: str) -> None:
    assert not is_loopback(host)
