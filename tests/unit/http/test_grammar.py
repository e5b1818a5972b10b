from __future__ import annotations

import pytest

from meshlet.http.grammar import (
    FIELD,
    TARGET,
    TOKEN,
    ConnectionOptions,
    Memo,
    is_token,
    looks_like,
    parse_authority,
    remember,
    without_named,
)


def test_the_alphabets() -> None:
    assert len(TOKEN) == 77  # 62 letters and digits, 15 others (RFC 9110 section 5.6.2)
    assert set(TARGET) < set(FIELD)
    assert set(TOKEN) < set(FIELD)
    assert set(FIELD) == {0x09, *range(0x20, 0x7F), *range(0x80, 0x100)}
    assert not {0x20, 0x09, 0x7F, ord("#")} & set(TARGET)


def test_tokens() -> None:
    assert is_token(TOKEN)
    assert not is_token(b"")
    assert not any(is_token(b"a%c" % byte) for byte in range(256) if byte not in TOKEN)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"Content_Length", True),
        (b"CONTENT.LENGTH", True),
        (b"content~length", True),
        (b"Content-Length", False),  # the field itself
        (b"CONTENT-LENGTH", False),
        (b"ContentLength", False),
        (b"Content--Length", False),
        (b"Content-Lengths", False),
        (b"X-Content_Length", False),
        (b"Content-Length-", False),
        (b"", False),
    ],
)
def test_lookalikes(name: bytes, found: bool) -> None:
    assert looks_like(name, frozenset({b"content-length"})) is found


def test_an_authority_is_host_and_port() -> None:
    assert parse_authority(b"App:80") == b"app"
    assert parse_authority(b"[::A]:80") == b"[::a]"
    assert parse_authority(b"a@b") is None


@pytest.mark.parametrize(
    ("value", "close", "keep_alive", "upgrade", "named"),
    [
        (b"", False, False, False, set()),
        (b"close", True, False, False, set()),
        (b" Close\t,KEEP-ALIVE", True, True, False, set()),
        (b"Upgrade, X-A ,, x-b", False, False, True, {b"x-a", b"x-b"}),
        (b"close;q=1", False, False, False, {b"close;q=1"}),
    ],
)
def test_connection_options(value: bytes, close: bool, keep_alive: bool, upgrade: bool, named: set[bytes]) -> None:
    options = ConnectionOptions(value)
    assert (options.close, options.keep_alive, options.upgrade, set(options.named)) == (
        close,
        keep_alive,
        upgrade,
        named,
    )


def test_fields_that_are_named_go_but_never_the_start_line() -> None:
    lines = [b"A:b / HTTP/1.1", b"A: 1", b"a:2", b"Ab: 3"]
    assert without_named(lines, frozenset({b"a"})) == [b"A:b / HTTP/1.1", b"Ab: 3"]


def test_a_memo_computes_once() -> None:
    computed: list[bytes] = []

    def upper(key: bytes) -> bytes:
        computed.append(key)
        return key.upper()

    memo = Memo(upper, entries=3)
    assert [memo[b"a"], memo[b"a"], memo[b"b"]] == [b"A", b"A", b"B"]
    assert computed == [b"a", b"b"]


def test_a_flood_of_keys_stays_within_bounds() -> None:
    memo = Memo(len, entries=10)
    assert all(memo[b"%d" % n] == len(b"%d" % n) for n in range(1000))
    assert len(memo) <= 10
    memo.clear()
    assert memo[b"x" * 129] == 129
    assert not memo  # long keys would fill memory, few as they are
    cache: dict[bytes, int] = {}
    for n in range(1000):
        remember(cache, b"%d" % n, n, entries=10)
    assert len(cache) <= 10


def test_what_raises_is_not_remembered() -> None:
    def fail(key: bytes) -> bytes:
        raise ValueError(key)

    memo = Memo(fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="a"):
            memo[b"a"]
    assert not memo
