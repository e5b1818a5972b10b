"""When a failed try may be followed by another one, and after what pause.

Two questions are kept apart. A *condition* (`on`) says what kind of failure the operator wants tried again. *Safety*
says whether that may execute a request twice; no condition and no client overrides it, only `non_idempotent` does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from meshlet.config.schema import Retry
from meshlet.config.units import Duration, RetryOn
from meshlet.errors import (
    ConnectFailure,
    ProxyError,
    UpstreamProtocolError,
    UpstreamReset,
    UpstreamTimeout,
)
from meshlet.http.head import field_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# RFC 9110 section 9.2.2: the safe methods, PUT and DELETE.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class _Condition(NamedTuple):
    """What one name of `on` covers: failures without a usable response, and statuses of responses."""

    failures: tuple[type[ProxyError], ...]
    statuses: frozenset[int] = frozenset()
    only_unseen: bool = False  # of the failures, those where not a byte of the request was sent
    only_before_response: bool = False  # of the failures, those before the first byte of a response

    def covers(self, error: ProxyError, *, response_began: bool) -> bool:
        return (
            isinstance(error, self.failures)
            and not (self.only_unseen and not error.unseen)
            and not (self.only_before_response and response_began)
        )


# Neither Overflow nor NoEndpoint: another try meets the same, and a breaker is there to shed load, not to double it.
_NO_RESPONSE = (UpstreamReset, UpstreamTimeout, UpstreamProtocolError, ConnectFailure)

# The names and what they cover are Envoy's (docs: router filter, x-envoy-retry-on), besides `reset-before-response`.
# Envoy as well counts every failure without a response as the 5xx that the client would get for it.
_CONDITIONS = {
    "connect-failure": _Condition((ConnectFailure,)),
    "refused": _Condition(_NO_RESPONSE, only_unseen=True),
    "reset": _Condition(_NO_RESPONSE),
    "reset-before-response": _Condition((UpstreamReset,), only_before_response=True),
    "5xx": _Condition(_NO_RESPONSE, frozenset(range(500, 600))),
    "gateway-error": _Condition(_NO_RESPONSE, frozenset((502, 503, 504))),
    "retriable-4xx": _Condition((), frozenset((409,))),
}


class RetryPolicy:
    """A route's `retry`, ready to be asked."""

    __slots__ = (
        "_backoff",
        "_conditions",
        "_max_retry_after",
        "attempts",
        "config",
        "configured",
        "max_body",
        "non_idempotent",
        "per_try_timeout",
        "statuses",
    )

    def __init__(self, config: Retry, *, configured: bool = True) -> None:
        self.config = config
        self.attempts = config.attempts  # besides the first
        self.per_try_timeout = float(config.per_try_timeout or 0.0)  # seconds, 0.0 for none
        self.max_body: int = config.max_body
        self.non_idempotent = config.non_idempotent
        #: Someone asked for it; False for the default, which is meant for going to another endpoint only.
        self.configured = configured
        self._backoff = config.backoff
        self._max_retry_after: float = config.max_retry_after
        self._conditions = tuple(_CONDITIONS[name] for name in config.on if name in _CONDITIONS)
        single = (int(name) for name in config.on if name not in _CONDITIONS)
        self.statuses = frozenset(single).union(*(condition.statuses for condition in self._conditions))

    def __repr__(self) -> str:
        return f"<RetryPolicy attempts={self.attempts} on={','.join(self.config.on)}>"

    def wants_error(self, error: ProxyError, *, response_began: bool) -> bool:
        """Say whether a try that failed is one to follow up; `response_began`: some byte of a response had come."""
        return any(condition.covers(error, response_began=response_began) for condition in self._conditions)

    def may_repeat(self, method: bytes, lines: list[bytes]) -> bool:
        """Say whether the request may be sent again although the app may have seen it.

        `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header) tells that the app recognises a repetition.
        """
        if method in IDEMPOTENT or self.non_idempotent:
            return True
        key = field_value(lines, b"idempotency-key")
        return key is not None and key.strip(b'"') != b""

    def pause(self, retry_number: int, random: Callable[[], float], asked: float | None = None) -> float:
        """Return how many seconds to wait before retry `retry_number` (1 for the first).

        Full jitter: uniform from 0 up to a bound that doubles each time, so that clients which failed together do not
        come back together. `random` gives numbers in [0, 1). `asked` is the least pause, of `retry_after`.
        """
        bound = min(self._backoff.max, self._backoff.base * 2.0 ** (retry_number - 1))
        pause = random() * bound
        return pause if asked is None or asked < pause else asked

    def retry_after(self, lines: list[bytes], now_unix: float) -> float | None:
        """Return the seconds that a response's `Retry-After` asks for, as far as the route obeys; None for no such."""
        if not self._max_retry_after:
            return None
        value = field_value(lines, b"retry-after")
        seconds = None if value is None else _delay(value, now_unix)
        return None if seconds is None else min(seconds, self._max_retry_after)


#: For routes without `retry`: only what certainly was not executed, which any client would try again as well.
DEFAULT_POLICY = RetryPolicy(Retry(), configured=False)


# --- Retry-After (RFC 9110 section 10.2.3) ---

# RFC 9110 section 5.6.7: IMF-fixdate, and the two obsolete formats that a recipient must accept.
_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")


def _delay(value: bytes, now_unix: float) -> float | None:
    seconds = _number(value)
    if seconds is not None:
        return float(seconds)
    text = value.decode("latin-1")
    for form in _DATES:
        try:
            when = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return max(0.0, when.timestamp() - now_unix)
    return None


# --- Envoy's request headers ---

_MOST_RETRIES = 100
_MOST_DIGITS = 20
# Envoy's name for the statuses of x-envoy-retriable-status-codes.
_STATUS_CODES = "retriable-status-codes"


def with_request_headers(policy: RetryPolicy, fields: Mapping[bytes, bytes]) -> RetryPolicy:
    """Return `policy` as a trusted client's `x-envoy-*` fields (names in lower case) change it.

    As in Envoy, `x-envoy-retry-on` adds to the route's conditions and names that are not known are ignored; where the
    route has no policy of its own, it stands for one of a single retry. Whether a request is safe to send again is
    not the client's to say.
    """
    config = policy.config
    changed: dict[str, Any] = {}
    asked = _list(fields.get(b"x-envoy-retry-on", b""))
    added = [name for name in (RetryOn.ALIASES.get(name, name) for name in asked) if name in _CONDITIONS]
    if _STATUS_CODES in asked or any(name not in _CONDITIONS for name in config.on):
        codes = _list(fields.get(b"x-envoy-retriable-status-codes", b""))
        added += (code for code in codes if len(code) == 3 and code.isascii() and code.isdigit())
    configured = policy.configured
    if added:
        changed["on"] = (*config.on, *map(RetryOn, added))
        if not configured:
            configured = True
            changed["attempts"] = 1
    retries = _number(fields.get(b"x-envoy-max-retries", b""))
    if retries is not None:
        changed["attempts"] = min(retries, _MOST_RETRIES)
    timeout = _number(fields.get(b"x-envoy-upstream-rq-per-try-timeout-ms", b""))
    if timeout:
        changed["per_try_timeout"] = Duration(timeout / 1000)
    return RetryPolicy(replace(config, **changed), configured=configured) if changed else policy


def _list(value: bytes) -> list[str]:
    return [item.strip() for item in value.decode("latin-1").split(",")]


def _number(value: bytes) -> int | None:
    # int() is quadratic in the length of what it reads, and Python refuses thousands of digits with an error.
    return int(value) if value.isdigit() and len(value) <= _MOST_DIGITS else None
