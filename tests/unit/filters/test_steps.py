from __future__ import annotations

from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.config.schema import Abort, Cors, Fault, RateLimit, ValueMatch
from meshlet.config.schema import Delay as DelayConfig
from meshlet.config.units import Duration
from meshlet.filters.cors import compile_cors
from meshlet.filters.errors import FaultAborted, RateLimited
from meshlet.filters.fault import compile_fault
from meshlet.filters.rate_limit import compile_rate_limit
from meshlet.http.answer import Answer, Delay
from tests.unit.filters.world import request_head

if TYPE_CHECKING:
    from meshlet.filters.steps import Step, StepExchange, Verdict


class Exchange:
    def __init__(self, *lines: str, method: str = "GET", host: str = "192.0.2.1") -> None:
        self.head = request_head(*lines, start=f"{method} / HTTP/1.1")
        self.remote_host = host
        self.extra_response = b""
        self.replaced_response: frozenset[bytes] = frozenset()


def ask(step: Step, *lines: str, now: float = 0.0, **more: str) -> tuple[Verdict, StepExchange]:
    exchange = Exchange(*lines, **more)
    return step(exchange, now), exchange


# --- rate limit ---


def test_what_is_beyond_the_rate_is_429() -> None:
    step = compile_rate_limit(RateLimit(requests=2, per=Duration(10.0)))
    assert ask(step)[0] is None
    assert ask(step)[0] is None
    error, exchange = ask(step, now=0.5)
    assert isinstance(error, RateLimited)
    assert (error.status, error.flag) == (429, "RL")
    assert error.fields == (
        b"retry-after: 5",
        b"x-ratelimit-limit: 2",
        b"x-ratelimit-remaining: 0",
        b"x-ratelimit-reset: 5",
    )
    assert exchange.extra_response == b""
    assert ask(step, now=5.0)[0] is None


def test_a_short_wait_is_still_a_second() -> None:
    step = compile_rate_limit(RateLimit(requests=100))
    for _ in range(100):
        assert ask(step)[0] is None
    error, _ = ask(step)
    assert isinstance(error, RateLimited)
    assert error.fields[0] == b"retry-after: 1"


def test_a_burst() -> None:
    step = compile_rate_limit(RateLimit(requests=1, burst=3))
    assert [ask(step)[0] is None for _ in range(4)] == [True, True, True, False]


def test_what_is_left_is_reported() -> None:
    step = compile_rate_limit(RateLimit(requests=2, report=True))
    _, exchange = ask(step)
    assert exchange.extra_response == (b"x-ratelimit-limit: 2\r\nx-ratelimit-remaining: 1\r\nx-ratelimit-reset: 0\r\n")


def test_a_bucket_for_each_client() -> None:
    step = compile_rate_limit(RateLimit(requests=1, source=True))
    assert ask(step, host="192.0.2.1")[0] is None
    assert ask(step, host="192.0.2.2")[0] is None
    assert ask(step, host="192.0.2.1")[0] is not None


def test_a_bucket_for_each_value_of_a_header() -> None:
    step = compile_rate_limit(RateLimit(requests=1, header="X-User"))
    assert ask(step, "x-user: a")[0] is None
    assert ask(step, "x-user: b")[0] is None
    assert ask(step)[0] is None
    assert ask(step, "X-USER:a", host="192.0.2.2")[0] is not None
    assert ask(step)[0] is not None


def test_a_bucket_for_each_pair() -> None:
    step = compile_rate_limit(RateLimit(requests=1, header="x-user", source=True))
    assert ask(step, "x-user: a", host="192.0.2.1")[0] is None
    assert ask(step, "x-user: a", host="192.0.2.2")[0] is None
    assert ask(step, "x-user: a", host="192.0.2.1")[0] is not None


def test_keys_beyond_the_bound_share_a_bucket() -> None:
    step = compile_rate_limit(RateLimit(requests=1, source=True, max_keys=2))
    verdicts = [ask(step, host=f"192.0.2.{number}")[0] is None for number in range(5)]
    assert verdicts == [True, True, True, False, False]


# --- faults ---


def fault(numbers: list[float], **given: Any) -> Step:
    return compile_fault(Fault(**given), cycle(numbers).__next__)


def test_a_delay() -> None:
    verdict, _ = ask(fault([0.99], delay=DelayConfig(duration=Duration(0.3))))
    assert verdict == Delay(0.3, None)
    assert isinstance(verdict, Delay)
    assert verdict.flag == "DI"


def test_an_abort() -> None:
    verdict, _ = ask(fault([0.99], abort=Abort(status=418)))
    assert isinstance(verdict, FaultAborted)
    assert (verdict.status, verdict.flag) == (418, "FI")


def test_an_abort_after_a_delay() -> None:
    verdict, _ = ask(fault([0.0], delay=DelayConfig(duration=Duration(0.3)), abort=Abort(status=503)))
    assert isinstance(verdict, Delay)
    assert isinstance(verdict.then, FaultAborted)


def test_shares_are_independent_of_each_other() -> None:
    grid = [number / 100 for number in range(100)]
    pairs = iter([number for late in grid for early in grid for number in (late, early)])
    delay = DelayConfig(duration=Duration(1.0), percent=25.0)
    step = compile_fault(Fault(delay=delay, abort=Abort(status=500, percent=10.0)), pairs.__next__)
    kinds = Counter(_kind(ask(step)[0]) for _ in range(10_000))
    assert kinds == {"delay": 2250, "delay and abort": 250, "abort": 750, "none": 6750}


def _kind(verdict: Verdict) -> str:
    if isinstance(verdict, Delay):
        return "delay" if verdict.then is None else "delay and abort"
    return "none" if verdict is None else "abort"


@pytest.mark.parametrize(("percent", "number", "hit"), [(0.0, 0.0, False), (100.0, 0.999999, True)])
def test_none_and_all(percent: float, number: float, hit: bool) -> None:
    verdict, _ = ask(fault([number], abort=Abort(status=500, percent=percent)))
    assert (verdict is not None) is hit


def test_only_requests_with_the_headers() -> None:
    step = fault([0.0], abort=Abort(status=500), headers={"x-fault": "on", "x-user": ValueMatch(prefix="test-")})
    assert ask(step)[0] is None
    assert ask(step, "x-fault: on")[0] is None
    assert ask(step, "x-fault: on", "x-user: test-1")[0] is not None


# --- CORS ---

NAMED = compile_cors(
    Cors(
        allow_origins=("https://a.example", "https://*.b.example:8443"),
        allow_methods=("GET", "PUT"),
        allow_headers=("x-a", "x-b"),
        expose_headers=("x-c",),
        allow_credentials=True,
        max_age=Duration(600.0),
    )
)
ANYONE = compile_cors(Cors(allow_origins=("*",)))
PREFLIGHT = ("Origin: https://a.example", "Access-Control-Request-Method: PUT")


def test_a_preflight_is_answered() -> None:
    verdict, _ = ask(NAMED, *PREFLIGHT, method="OPTIONS")
    assert verdict == Answer(
        200,
        (
            b"access-control-allow-origin: https://a.example",
            b"access-control-allow-credentials: true",
            b"access-control-allow-methods: GET, PUT",
            b"access-control-allow-headers: x-a, x-b",
            b"access-control-max-age: 600",
            b"vary: origin",
        ),
    )


def test_a_preflight_where_all_may_call() -> None:
    verdict, _ = ask(ANYONE, *PREFLIGHT, method="OPTIONS")
    assert verdict == Answer(200, (b"access-control-allow-origin: *", b"access-control-allow-methods: GET, HEAD, POST"))


@pytest.mark.parametrize(
    ("lines", "method"),
    [
        (("Origin: https://c.example", PREFLIGHT[1]), "OPTIONS"),
        (("Origin: null", PREFLIGHT[1]), "OPTIONS"),
        (PREFLIGHT[1:], "OPTIONS"),
        (("Origin: https://c.example",), "GET"),
        ((), "GET"),
    ],
)
def test_other_origins_go_to_the_app(lines: tuple[str, ...], method: str) -> None:
    verdict, exchange = ask(NAMED, *lines, method=method)
    assert verdict is None
    assert exchange.extra_response == b"vary: origin\r\n"
    assert exchange.replaced_response == frozenset()


@pytest.mark.parametrize(("lines", "method"), [(PREFLIGHT, "GET"), (PREFLIGHT[:1], "OPTIONS"), (PREFLIGHT[:1], "GET")])
def test_the_response_to_an_allowed_origin(lines: tuple[str, ...], method: str) -> None:
    verdict, exchange = ask(NAMED, *lines, method=method)
    assert verdict is None
    assert exchange.extra_response == (
        b"access-control-allow-origin: https://a.example\r\naccess-control-allow-credentials: true\r\n"
        b"access-control-expose-headers: x-c\r\nvary: origin\r\n"
    )
    assert exchange.replaced_response == {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-expose-headers",
    }


def test_a_response_for_all_does_not_vary() -> None:
    assert ask(ANYONE, PREFLIGHT[0])[1].extra_response == b"access-control-allow-origin: *\r\n"
    assert ask(ANYONE)[1].extra_response == b""


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.example", True),
        ("https://A.Example", True),
        ("http://a.example", False),
        ("https://a.example:443", False),
        ("https://a.example.evil", False),
        ("https://xa.example", False),
        ("https://axexample", False),
        ("https://x.b.example:8443", True),
        ("https://x.y.b.example:8443", True),
        ("https://b.example:8443", False),
        ("https://x.b.example", False),
        ("https://evil/.b.example:8443", False),
        ("https://evil:1.b.example:8443", False),
        ("https://xb.example:8443", False),
    ],
)
def test_which_origins_are_allowed(origin: str, allowed: bool) -> None:
    _, exchange = ask(NAMED, f"Origin: {origin}")
    assert (b"access-control-allow-origin" in exchange.extra_response) is allowed
