"""Durations, sizes, addresses, retry conditions: what is read and refused; what is written is read as the same."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshlet.config.units import Address, Duration, RetryOn, Size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2), ("1.5m", 90), ("1h", 3600), ("0s", 0), ("0.001s", 0.001), (0, 0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "2", "2 s", "s", "-1s", "+1s", "1e3s", ".5s", "1.s", "1d", "2S", "٣s", "1s\n", "9" * 5000 + "s"),
        *(5, 1.5, True, False, None),
    ],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="a duration such as 250ms, 2s, 5m or 1h"):
        Duration.parse(text)


def test_a_duration_has_an_end() -> None:
    assert Duration.parse("1000000000s") == 1e9
    with pytest.raises(ValueError, match="a duration of at most 1000000000s"):
        Duration.parse("1000000001s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (2, "2s"), (90, "90s"), (300, "5m"), (3600, "1h"), (0.0005, "0.0005s"), (1e9, None)],
)
def test_durations_are_written_as_people_write_them(seconds: float, text: str | None) -> None:
    assert Duration(seconds).written == (text or "1000000000s")


@settings(deadline=None)
@given(st.floats(min_value=0, max_value=1e9))
@example(1e-323)
@example(0.1 + 0.2)
def test_a_written_duration_is_read_as_the_same(seconds: float) -> None:
    assert Duration.parse(Duration(seconds).written) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), (512, 512), ("512B", 512), ("64KiB", 65536), ("10MiB", 10 << 20), ("1GiB", 1 << 30), (0, 0)],
)
def test_sizes(text: object, size: int) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize(
    "text", ["", "-1", "64kb", "64K", "64 KiB", "1.5MiB", "KiB", "٣", "1\n", "9" * 5000, -1, 1 << 61, 1.5, True, None]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="a size in bytes such as 512, 64KiB or 10MiB"):
        Size.parse(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (512, "512B"), (65536, "64KiB"), (1 << 20, "1MiB"), (3 << 30, "3GiB"), (1025, "1025B")],
)
def test_sizes_are_written_in_the_largest_unit(size: int, text: str) -> None:
    assert Size(size).written == text


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=1 << 60).filter(lambda size: size < 10**15 or size % 1024 == 0))
def test_a_written_size_is_read_as_the_same(size: int) -> None:
    assert Size.parse(Size(size).written) == size


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("reviews:9080", Address("reviews", 9080)),
        ("a_b.example.com.:65535", Address("a_b.example.com.", 65535)),
        ("unix:/run/app.sock", Address("", 0, "/run/app.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "8080",
            ":8080",
            "a",
            "a:",
            "a:b",
            "a:-1",
            "a:٣",
            "a b:1",
            "-a:1",
            "a..b:1",
            "a\n:1",
            "http://a:1",
            "a:1/",
        ),
        *("::1:80", "[::1]", "[::1:80", "[127.0.0.1]:1", "[::\0]:1", "256.0.0.1:1", "1.2.3:1", "٣.0.0.1:1"),
        *("unix:", "unix:/" + "a" * 107, "unix:/a\0", "unix:/a\n", 80, None),
    ],
)
def test_what_is_no_address(text: object) -> None:
    with pytest.raises(ValueError, match=r"an address HOST:PORT, \[IPV6\]:PORT or unix:/PATH"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["a:65536", "a:" + "9" * 5000])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="a port between 0 and 65535"):
        Address.parse(text)


@pytest.mark.parametrize("name", RetryOn.NAMES)
def test_conditions_of_retries(name: str) -> None:
    assert RetryOn.parse(name) == name
    assert isinstance(RetryOn.parse(name), RetryOn)


@pytest.mark.parametrize(("alias", "name"), RetryOn.ALIASES.items())
def test_other_names_of_conditions(alias: str, name: str) -> None:
    assert name in RetryOn.NAMES
    assert RetryOn.parse(alias) == name


@given(st.integers(400, 599))
def test_a_status_is_a_condition_with_quotes_and_without(status: int) -> None:
    assert RetryOn.parse(status) == RetryOn.parse(str(status)) == str(status)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5XX", "reset ", "Reset", "200", "399", "600", "0503", "50", "5033", "٥٠٣", "503\n", "-503", "4.0"),
        *(200, 399, 600, -503, 503.0, True, None, [], ["503"]),
    ],
)
def test_what_is_no_condition(text: object) -> None:
    with pytest.raises(ValueError, match=r"reset-before-response, 5xx, .* or a status from 400 to 599"):
        RetryOn.parse(text)


@pytest.mark.parametrize("what", [*RetryOn.NAMES, *RetryOn.ALIASES, 404, "503"])
def test_a_condition_is_read_as_the_same_again(what: object) -> None:
    read = RetryOn.parse(what)
    assert RetryOn.parse(str(read)) == read
