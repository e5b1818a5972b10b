from __future__ import annotations

import random
from typing import Any

import pytest

from meshlet.config.schema import Tracing
from meshlet.http.attempt import Attempt
from meshlet.telemetry.tracing.tracer import Ended
from tests.unit.telemetry.tracing.samples import SPAN_ID, TRACE_ID, FakeRecord, head, sent, tracer


class FakeExport:
    """Keeps what it is given."""

    def __init__(self, room: bool = True) -> None:
        self.room = room
        self.asked: list[int] = []
        self.ended: list[tuple[Ended, int]] = []

    def has_room(self, spans: int) -> bool:
        self.asked.append(spans)
        return self.room

    def put(self, ended: Ended, spans: int) -> None:
        self.ended.append((ended, spans))


def sampled_parent() -> bytes:
    return f"traceparent: 00-{TRACE_ID}-{SPAN_ID}-01".encode()


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.3, 1.0])
def test_a_share_of_the_traces_that_begin_here_is_sampled(ratio: float) -> None:
    one = tracer(Tracing(sample=ratio))
    count = sum(one.begin(head()).sampled for _ in range(20_000))
    assert count == pytest.approx(20_000 * ratio, abs=250)
    if ratio in (0.0, 1.0):
        assert count == 20_000 * ratio


def test_all_who_know_the_ratio_agree_on_a_trace() -> None:
    # A deferred decision (B3 without a state) is taken from the same digits as that on a trace of one's own.
    one, other = tracer(Tracing(sample=0.5)), tracer(Tracing(sample=0.5), "outbound", seed=2)
    for _ in range(200):
        trace = one.begin(head())
        asked = other.begin(head(b"b3: %b-%b" % (trace.trace_id, trace.span_id)))
        assert asked.sampled == trace.sampled


def test_the_digits_that_decide_are_the_last_seven_bytes() -> None:
    one = tracer(Tracing(sample=0.25))
    for trace, sampled in (("f" * 18 + "bfffffffffffff", False), ("0" * 18 + "c0000000000000", True)):
        assert one.begin(head(f"b3: {trace}-{SPAN_ID}".encode())).sampled is sampled


def test_a_trace_that_comes_with_a_decision_keeps_it() -> None:
    assert tracer(Tracing(sample=0)).begin(head(sampled_parent())).sampled
    assert not tracer(Tracing(sample=1)).begin(head(sampled_parent()[:-1] + b"0")).sampled


def test_a_new_trace_says_that_its_id_is_random() -> None:
    assert sent(tracer(Tracing(sample=0)).begin(head()))["traceparent"].endswith("-00")
    assert sent(tracer(Tracing(sample=1)).begin(head()))["traceparent"].endswith("-01")


def test_the_ids_come_from_the_random_source() -> None:
    trace = tracer(seed=7).begin(head())
    assert trace.span_id + trace.trace_id == b"%048x" % random.Random(7).getrandbits(192)


def test_each_attempt_of_an_outbound_request_is_a_span_and_an_inbound_one_keeps_its_own() -> None:
    inbound, outbound = tracer(), tracer(direction="outbound")
    trace = inbound.begin(head(sampled_parent()))
    first = trace.lines()
    inbound.next_attempt(trace)
    assert trace.lines() == first
    trace = outbound.begin(head(sampled_parent()))
    first, span = trace.lines(), trace.span_id
    outbound.next_attempt(trace)
    assert trace.span_id != span
    assert trace.lines() == first.replace(span, trace.span_id)
    assert trace.parent_id == SPAN_ID.encode()


@pytest.mark.parametrize(
    ("sample", "sample_errors", "record", "kept"),
    [
        (1, False, {}, True),
        (1, False, {"status": 503, "flag": "UF"}, True),
        (0, False, {"status": 503, "flag": "UF"}, False),
        (0, True, {}, False),
        (0, True, {"status": 404}, False),
        (0, True, {"status": 500}, True),
        (0, True, {"status": 200, "flag": "UC"}, True),
        (0, True, {"status": 0, "flag": "DC"}, True),
    ],
)
def test_what_is_recorded(sample: float, sample_errors: bool, record: dict[str, Any], kept: bool) -> None:
    export: Any = FakeExport()
    one = tracer(Tracing(sample=sample, sample_errors=sample_errors), export=export)
    trace = one.begin(head())
    assert (trace.sampled or one.sample_errors) >= kept
    one.end(FakeRecord(**record), trace)
    assert len(export.ended) == kept
    assert bool(export.asked) == kept, "what is not recorded is not counted as dropped"


def test_an_attempt_of_an_outbound_request_takes_the_room_of_a_span() -> None:
    tries = (Attempt("a:1"), Attempt("b:1"), Attempt("c:1"))
    for direction, attempts, spans in (("inbound", tries, 1), ("outbound", tries, 3), ("outbound", (), 1)):
        export: Any = FakeExport()
        one = tracer(Tracing(sample=1), direction, export)  # type: ignore[arg-type]
        one.end(FakeRecord(tries=attempts), one.begin(head()))
        assert [spans for _, spans in export.ended] == [spans]


def test_without_room_nothing_is_taken_out_of_the_record() -> None:
    export: Any = FakeExport(room=False)
    one = tracer(Tracing(sample=1), export=export)
    one.end(FakeRecord(), one.begin(head()))
    assert export.asked == [1]
    assert export.ended == []


def test_without_a_collector_the_context_is_passed_on_and_nothing_is_recorded() -> None:
    one = tracer(Tracing(sample=1, sample_errors=True))
    trace = one.begin(head())
    assert trace.sampled
    assert not one.sample_errors
    one.end(FakeRecord(status=500), trace)


def test_the_values_are_taken_out_of_the_record() -> None:
    export: Any = FakeExport()
    one = tracer(Tracing(sample=1), export=export)
    request = head()
    trace = one.begin(request)
    record = FakeRecord(head=request, route_name="all", tries=[Attempt("a:1")])
    one.end(record, trace)
    ((ended, _),) = export.ended
    assert ended.user_agent == b"curl/8"
    assert ended.tries == (Attempt("a:1"),)
    for name in Ended._fields:
        if name not in {"tries", "user_agent", "inbound"}:
            assert getattr(ended, name) == getattr(trace if hasattr(trace, name) else record, name), name


def test_what_waits_for_the_collector_is_bounded() -> None:
    export: Any = FakeExport()
    one = tracer(Tracing(sample=1), export=export)
    long = b"x" * 60_000
    request = head(sampled_parent(), b"tracestate: " + b",".join(b"k%d=%b" % (n, b"v" * 200) for n in range(32)))
    request.lines[-1] = b"User-Agent: " + long
    trace = one.begin(request)
    one.end(FakeRecord(head=request, target=b"/" + long, host=long, request_id=long), trace)
    ((ended, _),) = export.ended
    assert sum(len(value) for value in ended if isinstance(value, bytes | str)) < 5000
    assert ended.target.startswith(b"/xx")
    assert ended.tracestate is None
    assert b"k31=v" in trace.lines(), "on its way through nothing is cut"
