from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from meshlet import errors
from meshlet.filters.errors import FaultAborted, RateLimited
from meshlet.http.attempt import Attempt
from meshlet.http.flags import LONG_NAMES
from meshlet.resilience.breaker import Breaker
from meshlet.telemetry.explain.flags import FLAGS, about, link
from meshlet.telemetry.explain.text import as_text
from tests.support.explanations import explained

HERE = "10.0.0.1:8080"


def hints(**values: Any) -> list[str]:
    return [reason["hint"] for reason in explained(**values)["reasons"]]


def hint(**values: Any) -> str:
    (only,) = hints(**values)
    return only


def failed(flag: str, reason: str, **values: Any) -> dict[str, Any]:
    """A request whose only try failed so."""
    one = Attempt(HERE, flag, reason, **({"ended": 0.5} | values))
    return {"flag": flag, "error": reason, "tries": [one]}


def test_every_flag_is_in_the_table() -> None:
    assert FLAGS.keys() == LONG_NAMES.keys()


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_every_flag_has_a_hint_whatever_the_facts(flag: str) -> None:
    bare = {"attempts": 0, "upstream_host": None, "target": None, "host": None, "method": None, "cluster_name": None}
    for facts in ({}, bare, {"protocol": "TCP", **bare}, failed(flag, "what nobody has heard of")):
        for status in (0, 200, 408, 413, 503):
            (reason,) = explained(**facts | {"flag": flag, "status": status})["reasons"]
            assert reason["flag"] == flag
            assert reason["meaning"] == FLAGS[flag].meaning
            assert reason["link"] == f"docs/flags.md#{flag.lower()}"
            assert reason["hint"]
            assert "\n" not in reason["hint"]


@pytest.mark.parametrize(
    "error",
    [
        *(kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ProxyError)),
        RateLimited,
        FaultAborted,
    ],
)
def test_every_flag_of_an_error_is_in_the_table(error: type[errors.ProxyError]) -> None:
    assert not error.flag or error.flag in FLAGS


def test_each_flag_has_a_section_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "flags.md").read_text()
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert [title for title in sections if title.isupper()] == sorted(FLAGS)
    for name, long_name in LONG_NAMES.items():
        assert name == "FE" or long_name in sections[name]  # Envoy has no FE
        if name not in ("LR", "OM", "UAEX"):  # which meshlet does not set by itself
            for part in ("**What it means.**", "**Usual causes.**", "**What to do.**", "**Where it shows.**"):
                assert part in sections[name], (name, part)


def test_filters_failures_and_unknown_flags() -> None:
    (reason,) = explained(flag="FE:AddUser")["reasons"]
    assert reason["flag"] == "FE:AddUser"
    assert reason["hint"] == "meshlet's own log has the traceback of AddUser, at this time"
    assert reason["link"] == "docs/flags.md#fe"
    assert explained(flag="X-OWN")["reasons"] == [
        {"flag": "X-OWN", "meaning": about("X-OWN").meaning, "hint": about("X-OWN").check, "link": link("X-OWN")}
    ]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            "connect to 10.0.0.1:8080: connection refused",
            f"nothing listens on {HERE}: is the app up, and on this port?",
        ),
        ("connect to 10.0.0.1:8080: connect call failed ('10.0.0.1', 8080)", f"nothing listens on {HERE}"),
        ("no connection to 10.0.0.1:8080 within 5 s", f"{HERE} does not answer at all"),
        ("no connection to refused.name:8080 within 5 s", f"{HERE} does not answer at all"),
        ("connect to app:8080: name or service not known", f"the name in {HERE} is not known"),
        ("connect to app:8080: temporary failure in name resolution", f"the name in {HERE} is not known"),
        ("connect to name:8080: connection refused", f"nothing listens on {HERE}"),
        ("connect to unix:/app.sock: no such file or directory", f"there is no socket {HERE}"),
        ("connect to unix:/app.sock: permission denied", "look at its owner and mode"),
        ("connect to 10.0.0.1:8080: network is unreachable", f"there is no way to {HERE}"),
        ("connect to 10.0.0.1:8080: no route to host", f"there is no way to {HERE}"),
        ("connect to 10.0.0.1:8080: too many open files", "ulimit -n"),
        ("connect to 10.0.0.1:8080: cannot assign requested address", "no local port is left"),
        ("connect to 10.0.0.1:8080: something new", FLAGS["UF"].check),
        # a server with two addresses: the cause that tells most
        (
            "connect to 127.0.0.1:8080: connection refused, to [::1]:8080: cannot assign requested address",
            f"nothing listens on {HERE}",
        ),
        (
            "connect to 10.0.0.1:8080: no answer within 5 s, to [fd00::1]:8080: network is unreachable",
            f"{HERE} does not answer at all",
        ),
        (
            "connect to [fd00::1]:8080: network is unreachable, to 10.0.0.1:8080: no route to host",
            f"there is no way to {HERE}",
        ),
        ("connect to unix:/a, to b name: no such file or directory", f"there is no socket {HERE}"),
    ],
)
def test_no_connection(reason: str, words: str) -> None:
    assert words in hint(**failed("UF", reason))


def test_no_endpoint() -> None:
    none = "no endpoint of cluster reviews is known: Service reviews is not there"
    assert "discovery has found no endpoint of reviews" in hint(flag="UH", error=none)
    dns = "no endpoint of cluster reviews is known: cannot resolve reviews.local: name or service not known"
    assert "DNS does not know the endpoints of reviews" in hint(flag="UH", error=dns)
    some = "none of the 3 endpoints of cluster reviews is available: {} unhealthy, {} ejected"
    assert "outlier detection took them out" in hint(flag="UH", error=some.format(0, 3))
    assert "health checks of all endpoints fail" in hint(flag="UH", error=some.format(3, 0))
    assert hint(flag="UH", error=some.format(1, 2)) == FLAGS["UH"].check


def test_a_connection_that_broke() -> None:
    nothing = "the app closed the connection before it responded"
    assert "idle_timeout" in hint(**failed("UC", nothing, began=0.1, ended=0.11))
    late = hint(**failed("UC", nothing, began=0.1, ended=30.1))  # no idle connection shows so late that it is closed
    assert "closed without a word" in late
    assert "closed without a word" in hint(**failed("UC", nothing, connect=0.001, ended=0.01))
    assert "middle of its answer" in hint(
        **failed("UC", "the app closed the connection before its response was complete", first_byte=0.1), status=200
    )
    assert "closed without a word" in hint(**failed("UC", nothing, connect=0.001), status=503)  # our own answer's
    assert "middle of its answer" in hint(**failed("UC", nothing), response_seconds=0.2)
    assert "middle of its answer" in hint(**failed("UC", "the app closed the connection within a response head"))
    assert "is it TLS" in hint(**failed("UC", f"{HERE} broke the connection off as soon as it was made"))
    assert hint(flag="UC", protocol="TCP", status=0) == FLAGS["UC"].check


def test_no_answer_in_time() -> None:
    assert "never began a response" in hint(**failed("UT", "no response within 15 s"))
    never = failed("UT", "no response to this try within 0.3 s", began=0.1, connect=0.25, ended=0.35)
    assert f"{HERE} could not be connected to within `retry.per_try_timeout`" in hint(**never)
    assert "began no response within `retry.per_try_timeout`" in hint(
        **failed("UT", "no response to this try within 0.3 s")
    )
    assert "for all 2 tries" in hint(
        flag="UT",
        error="no response within 1 s",
        attempts=2,
        tries=[Attempt(HERE, "UF", "x"), Attempt(HERE, "UT", "y")],
    )
    assert "no connection became free" in hint(**failed("UT", "no free connection within 15 s"))
    assert "deadline_header" in hint(flag="UT", error="the client's deadline has passed", attempts=0)


def test_each_bound_of_the_circuit_breaker_is_named() -> None:
    breaker = Breaker.__new__(Breaker)
    breaker.requests, breaker.overflows = 1024, {"requests": 0}
    assert "max_requests" in hint(flag="UO", error=str(breaker.overflow()))
    assert "max_pending" in hint(flag="UO", error="1024 requests wait for a connection already")
    assert "max_connections" in hint(flag="UO", error="1024 connections are open already")
    assert "pending_timeout" in hint(flag="UO", error="no free connection within 5 s")
    both = hints(**failed("UF", "connect to 10.0.0.1:8080: connection refused") | {"flag": "UO,UF"})
    assert "retry_budget" in both[0]
    assert "nothing listens" in both[1]


def test_all_tries_failed() -> None:
    def urx(*endpoints: str, flag: str = "UT") -> str:
        tries = [Attempt(endpoint, flag, "x") for endpoint in endpoints]
        return hints(flag=f"URX,{flag}", error="x", tries=tries, attempts=len(tries))[0]

    assert f"every try went to {HERE}" in urx(HERE, HERE, HERE)
    assert "2 endpoints failed in turn" in urx(HERE, "10.0.0.2:8080")
    assert "none of 2 endpoints could be connected to: is reviews up at all?" in urx(HERE, "10.0.0.2:1", flag="UF")


def test_the_client_left() -> None:
    assert "gave up after 2 s without an answer" in hint(flag="DC", status=0, duration=2.0)
    assert "while it got its response" in hint(flag="DC", status=200, sent=5, response_seconds=0.1)
    assert "before the request was sent" in hint(flag="DC", status=0, attempts=0)
    assert "connection broke" in hint(flag="DC", status=0, protocol="TCP")


def test_no_route_comes_with_the_command_that_tells_why() -> None:
    facts = {"flag": "NR", "attempts": 0, "route_label": None}
    assert "`meshlet routes check CONFIG --listener outbound --request 'GET http://reviews.example/reviews/7'`" in hint(
        **facts, error="no route takes this request"
    )
    quoted = hint(**facts, error="no route takes this request", target=b"/it's;$(reboot)")
    assert """'GET http://reviews.example/it'"'"'s;$(reboot)'""" in quoted
    assert "connect: true" in hint(**facts, error="the route does not allow CONNECT")


@pytest.mark.parametrize(
    ("status", "words"), [(400, "which rule"), (413, "max_body"), (414, "max_target_bytes"), (431, "max_header_bytes")]
)
def test_what_the_client_broke(status: int, words: str) -> None:
    assert words in hint(flag="DPE", status=status)
    error = "this is TLS, and the listener has rules that only HTTP/1 can be held to"
    assert "`cluster` of listener" in hint(flag="DPE", status=0, error=error)


def test_idle() -> None:
    assert "the client stopped sending" in hint(flag="SI", status=408)
    assert "tcp_idle_timeout" in hint(flag="SI", status=0, protocol="TCP")
    silent = "the client has said nothing"
    assert "`protocol: tcp` dials at once" in hint(flag="SI", status=0, protocol="TCP", error=silent)
    assert hint(flag="SI", status=504) == FLAGS["SI"].check


def test_a_response_that_is_malformed() -> None:
    assert "TLS" in hint(**failed("UPE", "the response does not begin with HTTP/1."))
    assert "max_header_bytes" in hint(**failed("UPE", "the response head is larger than 65536 bytes"))
    assert "max_headers" in hint(**failed("UPE", "more than 200 header fields in the response"))
    assert f"curl -v http://{HERE}/" in hint(**failed("UPE", "a header line without a colon in the response"))


def test_without_a_flag() -> None:
    def told(**values: Any) -> tuple[str, str]:
        (reason,) = explained(**values)["reasons"]
        assert (reason["flag"], reason["link"]) == ("", "")
        return reason["meaning"], reason["hint"]

    assert told(status=500) == ("the app itself answered 500", f"look for id-1 in the log of {HERE}")
    assert told(status=503, attempts=0, acted=["Login"]) == (
        "Login answered 503 in the app's stead",
        "look at the filters of the route",
    )
    assert told(status=503, attempts=0)[0] == "the config answers 503 here"
    assert told(tries=[Attempt(HERE, "UF", "refused"), Attempt(HERE, "")], attempts=2) == (
        "it was answered at try 2",
        "why try 1 failed: refused",
    )


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"first_byte": 1.8}, f"1.8 s of it until {HERE} began its response"),
        ({"first_byte": 0.1, "connect": 1.5}, f"1.5 s of it to get a connection to {HERE}"),
        ({"first_byte": 0.1}, "1.9 s of it for the response's body"),
        ({"first_byte": 0.1, "asked": 1.7}, "1.7 s of it until the client had sent its whole request"),
    ],
)
def test_where_the_time_of_a_slow_request_went(times: dict[str, float], words: str) -> None:
    asked = times.pop("asked", 0.0)
    answered = asked + times.get("connect", 0.0) + times["first_byte"]
    one = Attempt(HERE, status=200, **times)  # type: ignore[arg-type]
    found = hint(duration=2.0, tries=[one], request_seconds=asked, response_seconds=answered)
    assert found.startswith(words)


def test_the_text_is_a_timeline() -> None:
    tries = [
        Attempt("10.0.0.1:8080", "UF", "connect to 10.0.0.1:8080: connection refused", 0, 0.0002, 0.001),
        Attempt("10.0.0.2:8080", "", "10.0.0.2:8080 answered 503", 503, 0.02, 0.12, None, 0.1),
        Attempt("10.0.0.3:8080", "UT", "no response to this try within 1 s", 0, 0.2, 1.2, 0.005),
    ]
    facts = explained(
        status=504, flag="URX,UT", error=tries[2].reason, tries=tries, attempts=3, duration=1.2001, received=9, sent=70,
        request_seconds=0.015, method=b"PUT",
    )  # fmt: skip
    lines = as_text([facts]).splitlines()
    assert lines[0] == "PUT /reviews/7: 504 URX,UT, after 1.200 s"
    assert "  URX: all tries that the route allows were made, and the last one failed too" in lines
    assert "    more:  docs/flags.md#ut" in lines
    assert "  listener    outbound" in lines
    assert not [line for line in lines if line.startswith("  direction")]
    assert "  when        2023-11-14T22:13:20.250Z" in lines
    assert "  bytes       9 from the client, 70 to it" in lines
    assert not [line for line in lines if line.startswith("  trace id")]
    assert lines[lines.index("  timeline") + 1 :] == [
        "         0.0 ms  the request's head came",
        "         0.2 ms  try 1: 10.0.0.1:8080",
        "         1.0 ms  try 1: failed, UF: connect to 10.0.0.1:8080: connection refused",
        "        15.0 ms  the request was complete",
        "        20.0 ms  try 2: 10.0.0.2:8080, on a pooled connection",
        "       120.0 ms  try 2: answered 503",
        "       120.0 ms  try 2: given up: 10.0.0.2:8080 answered 503",
        "       200.0 ms  try 3: 10.0.0.3:8080",
        "       205.0 ms  try 3: connected, after 5.0 ms",
        "      1200.0 ms  try 3: failed, UT: no response to this try within 1 s",
        "      1200.1 ms  over with 504, URX,UT",
    ]


def test_the_text_of_what_never_became_a_request_and_of_tcp() -> None:
    bad = {"method": None, "target": None, "host": None, "attempts": 0, "cluster_name": None, "route_label": None}
    assert as_text([explained(flag="DPE", status=400, **bad)]).startswith("not a request: 400 DPE, after")
    both = as_text([explained(flag="UC", protocol="TCP", status=0, **bad), explained(flag="DC", status=0)])
    assert "TCP connection: UC, after 0.500 s\n" in both
    assert "500.0 ms  over, UC\n\nGET /reviews/7: no response DC, after" in both
    assert both.endswith("500.0 ms  over without a response, DC\n")


def test_the_text_says_which_tries_were_left_out() -> None:
    tries = [Attempt(HERE, "UF", "x", began=number / 10, ended=number / 10) for number in range(20)]
    text = as_text([explained(flag="UF", status=503, tries=tries, attempts=20, duration=2.0)])
    assert re.search(r"1200.0 ms  \(4 more tries before this one\)\n +1200.0 ms  try 13:", text)
