"""What an exchange tells those who record it: tries, times, spans' ids on the wire, explanations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conversations.world import FIRST, FORWARDED, GET, GOT_GET, GOT_OK, OK, SERVICE_TIME, conversation
from tests.support.wire import head, messages

if TYPE_CHECKING:
    from tests.conversations.world import App, World

SECOND = "10.0.1.2:8080"
TWO = {"endpoints": [FIRST, SECOND]}
RETRY = {"retry": {"on": ["503", "reset", "connect-failure"], "backoff": {"base": "1ms", "max": "1ms"}}}
TRACED = {"tracing": {"sample": 1}}
UNAVAILABLE = head("HTTP/1.1 503 Service Unavailable", "Content-Length: 0")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def _traceparent(app: App) -> tuple[str, str, str]:
    """Return the ids and flags that the request has come with; it must have them once."""
    (request,) = messages(app.takes())
    value = request.field("traceparent")
    assert value is not None
    match = TRACEPARENT.fullmatch(value)
    assert match is not None, value
    return match[1], match[2], match[3]


@conversation(cut=False, drop=False)
def test_without_tracing_the_context_passes_untouched(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", "TraceParent: nonsense", "b3: 0"))
    app = world.app()
    app.got(head("GET / HTTP/1.1", "Host: a", "TraceParent: nonsense", "b3: 0", *FORWARDED))
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, drop=False, telemetry=TRACED)
def test_a_trace_begins_here(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    trace_id, span_id, flags = _traceparent(app)
    assert (int(trace_id, 16) > 0, int(span_id, 16) > 0, flags) == (True, True, "01")
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, drop=False, telemetry=TRACED)
def test_a_trace_goes_on(world: World) -> None:
    client = world.client()
    client.sends(head("GET / HTTP/1.1", "Host: a", f"traceparent: {PARENT}", "tracestate: a=1"))
    app = world.app()
    (request,) = messages(app.takes())
    match = TRACEPARENT.fullmatch(request.field("traceparent") or "")
    assert match is not None
    assert match[1] == "0af7651916cd43dd8448eb211c80319c"
    assert match[2] != "b7ad6b7169203331"
    assert request.field("tracestate") == "a=1"
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, drop=False, telemetry=TRACED, cluster=TWO, route=RETRY)
def test_inbound_all_tries_are_within_one_span(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    first = _traceparent(app)
    app.sends(UNAVAILABLE)
    world.passes(0.01)
    app = world.app()
    assert _traceparent(app) == first
    app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, drop=False, telemetry=TRACED, cluster=TWO, route=RETRY, listener={"direction": "outbound"})
def test_outbound_each_try_is_a_span(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    trace_id, span_id, _ = _traceparent(app)
    app.sends(UNAVAILABLE)
    world.passes(0.01)
    app = world.app()
    again, other, _ = _traceparent(app)
    assert again == trace_id
    assert other != span_id
    app.sends(OK)
    client.got(GOT_OK)
    (entry,) = world.log.entries
    assert [each.span_id.decode() for each in entry.tries] == [span_id, other]


@conversation(
    cut=False, drop=False, telemetry=TRACED, cluster=TWO, route={"hedge": {"after": "100ms"}},
    listener={"direction": "outbound"},
)  # fmt: skip
def test_a_hedge_is_a_span_of_its_own(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    before = _traceparent(first)
    world.passes(0.11)
    second = world.app()
    after = _traceparent(second)
    assert before[0] == after[0]
    assert before[1] != after[1]
    second.sends(OK)
    client.takes()
    (entry,) = world.log.entries
    lost, won = entry.tries
    assert (lost.endpoint, lost.span_id.decode(), lost.status) == (first.address, before[1], 0)
    assert "another try was answered first" in lost.reason
    assert (won.endpoint, won.span_id.decode(), won.status) == (second.address, after[1], 200)


@conversation(cut=False, drop=False, cluster=TWO, route={"hedge": {"after": "100ms"}})
def test_no_try_was_faster_where_the_client_has_gone(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    world.passes(0.11)
    second = world.app()
    second.got(GOT_GET)
    client.resets()
    (entry,) = world.log.entries
    assert [(told.endpoint, told.flag, told.reason) for told in entry.tries] == [
        (first.address, "DC", "the client closed the connection"),
        (second.address, "", "given up: the request had ended"),
    ]


@conversation(cut=False, drop=False, telemetry=TRACED, clusters=[{"name": "copy", "endpoints": ["10.0.9.9:80"]}],
              route={"mirror": {"cluster": "copy"}})  # fmt: skip
def test_a_copy_belongs_to_the_trace(world: World) -> None:
    client = world.client()
    client.sends(GET)
    one, other = world.app(), world.app()
    assert _traceparent(one)[0] == _traceparent(other)[0]
    for app in (one, other):
        app.sends(OK)
    client.got(GOT_OK)


@conversation(cut=False, drop=False, cluster=TWO, route=RETRY)
def test_tries_in_their_order(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    world.passes(0.2)
    first.sends(UNAVAILABLE)
    world.passes(0.05)
    second = world.app()
    second.got(GOT_GET)
    world.passes(0.1)
    second.resets()
    world.passes(0.05)
    third = world.app()
    third.got(GOT_GET)
    third.sends(OK)
    client.takes()
    (entry,) = world.log.entries
    failed, broken, good = entry.tries
    assert (failed.endpoint, failed.status, failed.flag) == (first.address, 503, "")
    assert failed.first_byte is not None
    assert 0.2 <= failed.first_byte <= 0.25
    assert (broken.endpoint, broken.status, broken.flag, broken.first_byte) == (second.address, 0, "UC", None)
    assert broken.began >= failed.ended
    assert (good.endpoint, good.status, good.flag, good.reason) == (third.address, 200, "", "")
    assert good.ended == entry.duration
    assert world.explanations is not None
    (told,) = world.explanations.recent(10)
    assert [each["status"] for each in told["tries"]] == [503, 0, 200]
    assert told["endpoint"] == third.address


@conversation(cut=False, drop=False, cluster={"connect_timeout": "1s"}, route={"retry": {"attempts": 0}})
def test_a_try_that_was_never_connected(world: World) -> None:
    world.hold()
    client = world.client()
    client.sends(GET)
    world.passes(1.1)
    client.got_reply(503, "URX,UF", close=False)
    (entry,) = world.log.entries
    (told,) = entry.tries
    assert (told.flag, told.first_byte) == ("UF", None)
    assert told.connect is not None
    assert 1.0 <= told.connect <= 1.1
    assert entry.error == told.reason


@conversation(cut=False, drop=False)
def test_a_response_that_breaks_off(world: World) -> None:
    client = world.client()
    client.sends(GET)
    app = world.app()
    app.got(GOT_GET)
    app.sends(head("HTTP/1.1 200 OK", "Content-Length: 9"), b"abc")
    client.got(head("HTTP/1.1 200 OK", "Content-Length: 9", *_answered()), b"abc")
    app.resets()
    assert client.reset
    (entry,) = world.log.entries
    assert (entry.status, entry.flag, bool(entry.error)) == (200, "UC", True)
    (told,) = entry.tries
    assert (told.status, told.flag) == (200, "UC")
    endpoint = world.cluster.endpoints[0]
    assert (sum(endpoint.durations), endpoint.failures_total) == (1, 1)


def _answered() -> tuple[str, ...]:
    return (SERVICE_TIME, "date: Thu, 01 Jan 2026 00:00:00 GMT")


@conversation(cut=False, drop=False)
def test_times_of_an_upload(world: World) -> None:
    client = world.client()
    client.sends(head("PUT / HTTP/1.1", "Host: a", "Content-Length: 4"), b"ab")
    app = world.app()
    app.takes()
    world.passes(0.5)
    client.sends(b"cd")
    app.got(b"cd")
    world.passes(0.25)
    app.sends(OK)
    client.takes()
    (entry,) = world.log.entries
    request, response, service = entry.times
    assert request is not None
    assert response is not None
    assert service is not None
    assert 0.5 <= request < 0.6
    assert 0.75 <= response < 0.9
    assert 0.25 <= service < 0.3


@conversation(
    cut=False, drop=False, cluster=TWO,
    route={"timeout": "1s", "retry": {"on": ["503"], "attempts": 1, "backoff": {"base": "1ms", "max": "1ms"}}},
)  # fmt: skip
def test_a_try_without_a_response_has_not_the_times_of_the_one_before(world: World) -> None:
    client = world.client()
    client.sends(GET)
    first = world.app()
    first.got(GOT_GET)
    first.sends(UNAVAILABLE)
    world.passes(0.01)
    second = world.app()
    second.got(GOT_GET)
    world.passes(1.1)
    client.got_reply(504, "UT", close=False)
    (entry,) = world.log.entries
    assert [told.status for told in entry.tries] == [503, 0]
    assert entry.times[1:] == (None, None)


@conversation(cut=False, drop=False)
def test_what_cannot_be_read_has_an_id_too(world: World) -> None:
    client = world.client()
    client.sends(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
    reply = client.got_reply(400, "DPE")
    assert reply.field("x-request-id") == "made-by-meshlet"
    assert world.explanations is not None
    (told,) = world.explanations.find("made-by-meshlet")
    assert told["flag"] == "DPE"
    assert (world.log.entries[0].method, world.log.entries[0].request_id) == (None, b"made-by-meshlet")


@conversation(cut=False, drop=False, telemetry={"explain": {"slow": "200ms"}})
def test_slow_requests_are_kept_and_quick_ones_are_not(world: World) -> None:
    client = world.client()
    for wait in (0.0, 0.3):
        client.sends(GET)
        app = world.apps[0] if world.apps else world.app()
        app.got(GOT_GET)
        world.passes(wait)
        app.sends(OK)
        client.takes()
    assert world.explanations is not None
    (told,) = world.explanations.recent(10)
    assert told["duration"] > 0.2


@conversation(cut=False, drop=False, telemetry={"explain": {"keep": 0}}, routes=[{"direct_response": {"status": 500}}])
def test_explanations_can_be_switched_off(world: World) -> None:
    client = world.client()
    client.sends(GET)
    client.takes()
    assert world.explanations is None
