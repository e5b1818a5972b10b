"""What is tried again, whether it may be, and after what pause."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.schema import Backoff, Retry
from meshlet.config.units import Duration, RetryOn, Size
from meshlet.errors import (
    BadRequest,
    ConnectFailure,
    DownstreamGone,
    NoEndpoint,
    Overflow,
    ProxyError,
    StreamIdle,
    UpstreamProtocolError,
    UpstreamReset,
    UpstreamTimeout,
)
from meshlet.resilience.retry import DEFAULT_POLICY, RetryPolicy, with_request_headers

pure = settings(deadline=None)
_NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the RFC's example


def policy(*on: object, **others: Any) -> RetryPolicy:
    return RetryPolicy(Retry(on=tuple(RetryOn.parse(each) for each in on), **others))


def found_dead() -> UpstreamReset:
    error = UpstreamReset("closed before a byte was written")
    error.unseen = True
    return error


_FAILURES: dict[str, ProxyError] = {
    "connect": ConnectFailure("refused"),
    "dead": found_dead(),
    "reset": UpstreamReset("closed"),
    "timeout": UpstreamTimeout("slow"),
    "malformed": UpstreamProtocolError("no colon"),
    "overflow": Overflow("full"),
    "nowhere": NoEndpoint("empty"),
    "gone": DownstreamGone("left"),
    "idle": StreamIdle("silent"),
    "bad": BadRequest("colon"),
}
_NO_RESPONSE = {"connect", "dead", "reset", "timeout", "malformed"}


@pytest.mark.parametrize(
    ("on", "wanted"),
    [
        ("connect-failure", {"connect"}),
        ("refused", {"connect", "dead"}),
        ("refused-stream", {"connect", "dead"}),
        ("reset", _NO_RESPONSE),
        ("reset-before-response", {"reset", "dead"}),
        ("5xx", _NO_RESPONSE),
        ("gateway-error", _NO_RESPONSE),
        ("retriable-4xx", set[str]()),
        (503, set[str]()),
    ],
)
def test_each_condition_wants_its_failures_and_no_other(on: object, wanted: set[str]) -> None:
    one = policy(on)
    assert {name for name, error in _FAILURES.items() if one.wants_error(error, response_began=False)} == wanted


def test_a_response_that_began_counts_for_reset_before_response_alone() -> None:
    reset = UpstreamReset("closed in the middle")
    assert not policy("reset-before-response").wants_error(reset, response_began=True)
    assert policy("reset").wants_error(reset, response_began=True)
    assert policy("reset-before-response", "reset").wants_error(reset, response_began=True)


@pytest.mark.parametrize(
    ("on", "statuses"),
    [
        ("5xx", set(range(500, 600))),
        ("gateway-error", {502, 503, 504}),
        ("retriable-4xx", {409}),
        ("reset", set[int]()),
        (429, {429}),
        ("503", {503}),
    ],
)
def test_each_condition_wants_its_statuses_and_no_other(on: object, statuses: set[int]) -> None:
    one = policy(on)
    assert one.statuses == statuses


def test_conditions_add_up() -> None:
    one = policy("connect-failure", "retriable-4xx", 429)
    assert one.statuses == {409, 429}
    assert one.wants_error(_FAILURES["connect"], response_began=False)


def test_the_policy_holds_the_configured_numbers() -> None:
    one = policy("5xx", attempts=7, per_try_timeout=Duration(1.5), max_body=Size(10), non_idempotent=True)
    assert (one.attempts, one.per_try_timeout, one.max_body, one.non_idempotent) == (7, 1.5, 10, True)
    assert one.configured
    assert policy("5xx").per_try_timeout == 0.0


def test_the_default_sends_again_only_what_was_not_seen() -> None:
    assert (DEFAULT_POLICY.attempts, DEFAULT_POLICY.configured) == (2, False)
    assert DEFAULT_POLICY.statuses == frozenset()
    wanted = {name for name, error in _FAILURES.items() if DEFAULT_POLICY.wants_error(error, response_began=False)}
    assert wanted == {"connect", "dead"}
    assert all(_FAILURES[name].unseen for name in wanted)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
def test_idempotent_methods_may_be_repeated(method: bytes) -> None:
    assert policy("5xx").may_repeat(method, [method + b" / HTTP/1.1"])


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"CONNECT", b"get", b"PROPFIND"])
def test_other_methods_need_a_key_or_the_route_s_word(method: bytes) -> None:
    start = method + b" / HTTP/1.1"
    assert not policy("5xx").may_repeat(method, [start, b"Host: a"])
    assert policy("5xx").may_repeat(method, [start, b"IDEMPOTENCY-key: \t x1"])
    assert policy("5xx", non_idempotent=True).may_repeat(method, [start])


@pytest.mark.parametrize("line", [b"Idempotency-Key:", b"Idempotency-Key:  ", b'Idempotency-Key: ""'])
def test_an_empty_key_is_none(line: bytes) -> None:
    assert not policy("5xx").may_repeat(b"POST", [b"POST / HTTP/1.1", line])


_BACKOFF = Backoff(base=Duration(0.025), max=Duration(0.25))


@pytest.mark.parametrize(("number", "bound"), [(1, 0.025), (2, 0.05), (3, 0.1), (4, 0.2), (5, 0.25), (100, 0.25)])
def test_the_bound_of_the_pause_doubles_up_to_the_maximum(number: int, bound: float) -> None:
    one = policy("5xx", backoff=_BACKOFF)
    assert one.pause(number, lambda: 0.0) == 0.0
    assert one.pause(number, lambda: 0.5) == pytest.approx(bound / 2)


@pure
@given(
    number=st.integers(1, 100),
    chance=st.floats(0, 1, exclude_max=True),
    asked=st.none() | st.floats(0, 100),
    base=st.floats(0.001, 10),
    most=st.floats(0.001, 100),
)
def test_a_pause_is_within_its_bounds(
    number: int, chance: float, asked: float | None, base: float, most: float
) -> None:
    one = policy("5xx", backoff=Backoff(base=Duration(base), max=Duration(most)))
    pause = one.pause(number, lambda: chance, asked)
    bound = min(most, base * 2 ** (number - 1))
    assert (asked or 0.0) <= pause <= max(bound, asked or 0.0)
    assert pause >= bound * chance


def asked_for(value: bytes, most: float = 1000.0) -> float | None:
    lines = [b"HTTP/1.1 503 Service Unavailable", b"retry-After: " + value]
    return policy("5xx", max_retry_after=Duration(most)).retry_after(lines, _NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b"00000000000000012", 12.0),
        (b"99999999999999999999", 1000.0),
        (b"Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        (b"Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        (b"Sun Nov  6 08:49:47 1994", 10.0),
        (b"Sun, 06 Nov 1994 08:49:07 GMT", 0.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 1000.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float) -> None:
    assert asked_for(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"1.5",
        b"1 2",
        b"+3",
        b"soon",
        b"\xb2",
        b"9" * 5000,
        b"Sun, 06 Nov 1994 08:49:37 CET",
        b"Sun, 32 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 25:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, 5",
        b"\xff\x00",
    ],
)
def test_garbage_in_retry_after_is_ignored(value: bytes) -> None:
    assert asked_for(value) is None


@pure
@given(st.binary(max_size=40))
def test_no_retry_after_breaks_anything(value: bytes) -> None:
    seconds = asked_for(value)
    assert seconds is None or 0 <= seconds <= 1000


def test_retry_after_is_obeyed_up_to_the_route_s_maximum() -> None:
    assert asked_for(b"120", most=5.0) == 5.0
    assert asked_for(b"120", most=0.0) is None
    assert policy("5xx").retry_after([b"HTTP/1.1 503 Busy"], _NOW) is None


def changed(base: RetryPolicy, **fields: str) -> RetryPolicy:
    names = {
        "on": b"x-envoy-retry-on",
        "retries": b"x-envoy-max-retries",
        "codes": b"x-envoy-retriable-status-codes",
        "timeout": b"x-envoy-upstream-rq-per-try-timeout-ms",
    }
    return with_request_headers(base, {names[name]: value.encode() for name, value in fields.items()})


def test_without_fields_the_policy_stays() -> None:
    base = policy("5xx")
    assert with_request_headers(base, {}) is base


def test_a_client_s_conditions_are_added_to_the_route_s() -> None:
    base = policy("retriable-4xx", attempts=4)
    one = changed(base, on="gateway-error, reset")
    assert one.statuses == {409, 502, 503, 504}
    assert one.wants_error(_FAILURES["timeout"], response_began=False)
    assert (one.attempts, one.configured) == (4, True)
    assert base.statuses == {409}


def test_where_the_route_has_none_a_client_s_conditions_mean_one_retry() -> None:
    one = changed(DEFAULT_POLICY, on="5xx")
    assert (one.attempts, one.configured) == (1, True)
    assert 500 in one.statuses
    assert one.wants_error(_FAILURES["dead"], response_began=False)
    assert not DEFAULT_POLICY.configured


@pytest.mark.parametrize("names", ["", "cancelled", "retriable-headers,http3-post-connect-failure", "5XX", "503", ",,"])
def test_unknown_names_are_ignored(names: str) -> None:
    assert changed(DEFAULT_POLICY, on=names) is DEFAULT_POLICY


def test_envoy_s_names_for_ours_are_known() -> None:
    one = changed(policy("retriable-4xx"), on="unknown,refused-stream")
    assert one.wants_error(_FAILURES["dead"], response_began=False)
    assert not one.wants_error(_FAILURES["reset"], response_began=False)


@pytest.mark.parametrize(("value", "attempts"), [("0", 0), ("5", 5), ("100", 100), ("101", 100), ("9" * 20, 100)])
def test_a_client_chooses_the_number_of_retries(value: str, attempts: int) -> None:
    assert changed(policy("5xx"), retries=value).attempts == attempts
    assert changed(DEFAULT_POLICY, on="5xx", retries=value).attempts == attempts
    assert not changed(DEFAULT_POLICY, retries=value).configured


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "9" * 5000, "\u0663"])
def test_garbage_numbers_are_ignored(value: str) -> None:
    base = policy("5xx", per_try_timeout=Duration(3.0))
    assert changed(base, retries=value, timeout=value) is base


def test_statuses_count_only_with_their_condition() -> None:
    base = policy("retriable-4xx")
    assert changed(base, codes="418,425") is base
    assert changed(base, on="retriable-status-codes", codes=" 418 ,425,x,4,\u00b2\u00b2\u00b2,1000").statuses == {
        409,
        418,
        425,
    }
    assert changed(policy("429"), codes="418").statuses == {418, 429}
    assert changed(base, on="retriable-status-codes") is base


def test_a_client_sets_the_timeout_of_a_try() -> None:
    base = policy("5xx", per_try_timeout=Duration(3.0))
    assert changed(base, timeout="250").per_try_timeout == 0.25
    assert changed(base, timeout="0").per_try_timeout == 3.0


def test_a_client_never_makes_a_request_repeatable() -> None:
    one = changed(policy("reset"), on="5xx,non_idempotent", retries="3")
    assert not one.non_idempotent
    assert not one.may_repeat(b"POST", [b"POST / HTTP/1.1"])


def test_a_policy_can_be_read() -> None:
    assert repr(policy("5xx", 429, attempts=3)) == "<RetryPolicy attempts=3 on=5xx,429>"
