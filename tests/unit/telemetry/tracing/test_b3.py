from __future__ import annotations

import pytest

from meshlet.config.schema import Tracing
from tests.unit.telemetry.tracing.samples import SPAN_ID, TRACE_ID, head, passed_on, sent, tracer

SHORT = TRACE_ID[:16]
NEVER = Tracing(sample=0)
ALWAYS = Tracing(sample=1)
IDS = [f"x-b3-traceid: {TRACE_ID}".encode(), f"x-b3-spanid: {SPAN_ID}".encode()]


@pytest.mark.parametrize(
    ("value", "sampled", "state"),
    [
        (f"{TRACE_ID}-{SPAN_ID}-1", True, "1"),
        (f"{TRACE_ID}-{SPAN_ID}-0", False, "0"),
        (f"{TRACE_ID}-{SPAN_ID}-d", True, "d"),
        (f"{TRACE_ID}-{SPAN_ID}-1-05e3ac9a4f6e3b90", True, "1"),
    ],
)
def test_b3_in_one_field_is_gone_on_from_and_answered(value: str, sampled: bool, state: str) -> None:
    trace = tracer(NEVER).begin(head(f"b3: {value}".encode()))
    span = trace.span_id.decode()
    assert trace.trace_id == TRACE_ID.encode()
    assert trace.parent_id == SPAN_ID.encode()
    assert trace.sampled is sampled
    assert sent(trace) == {
        "traceparent": f"00-{TRACE_ID}-{span}-0{sampled:d}",
        "b3": f"{TRACE_ID}-{span}-{state}-{SPAN_ID}",
    }


@pytest.mark.parametrize(("config", "sampled"), [(NEVER, False), (ALWAYS, True)])
def test_a_decision_that_was_left_open_is_taken(config: Tracing, sampled: bool) -> None:
    for fields in ([f"b3: {TRACE_ID}-{SPAN_ID}".encode()], IDS):
        trace = tracer(config).begin(head(*fields))
        assert trace.trace_id == TRACE_ID.encode()
        assert trace.sampled is sampled


@pytest.mark.parametrize(
    ("field", "sampled", "b3"),
    [
        (b"b3: 0", False, "-0"),
        (b"b3: 1", True, "-1"),
        (b"b3: d", True, "-d"),
        (b"x-b3-sampled: 0", False, None),
        (b"X-B3-Sampled: 1", True, None),
        (b"x-b3-flags: 1", True, None),
    ],
)
@pytest.mark.parametrize("config", [NEVER, ALWAYS])
def test_a_decision_without_ids_holds_for_a_trace_that_begins_here(
    config: Tracing, field: bytes, sampled: bool, b3: str | None
) -> None:
    trace = tracer(config).begin(head(field))
    assert trace.parent_id is None
    assert trace.sampled is sampled
    found = sent(trace)
    assert found["traceparent"].endswith(f"-0{int(sampled)}")
    if b3 is not None:
        assert found["b3"] == f"{trace.trace_id.decode()}-{trace.span_id.decode()}{b3}"
    else:
        assert found["x-b3-traceid"] == trace.trace_id.decode()
        assert "b3" not in found


def test_ids_of_64_bits_are_padded_for_w3c_and_stay_short_in_b3() -> None:
    trace = tracer().begin(head(f"b3: {SHORT}-{SPAN_ID}-1".encode()))
    assert trace.trace_id.decode() == "0" * 16 + SHORT
    assert sent(trace)["traceparent"].startswith(f"00-{'0' * 16}{SHORT}-")
    assert sent(trace)["b3"].startswith(f"{SHORT}-{trace.span_id.decode()}-1")
    fields = [f"x-b3-traceid: {SHORT}".encode(), f"x-b3-spanid: {SPAN_ID}".encode()]
    assert passed_on(*fields)["x-b3-traceid"] == SHORT


@pytest.mark.parametrize(
    ("further", "sampled", "goes"),
    [
        ([b"x-b3-sampled: 1"], True, {"x-b3-sampled": "1"}),
        ([b"x-b3-sampled: 0"], False, {"x-b3-sampled": "0"}),
        ([b"X-B3-Sampled: true"], True, {"x-b3-sampled": "1"}),
        ([b"x-b3-sampled: false"], False, {"x-b3-sampled": "0"}),
        ([b"x-b3-flags: 1"], True, {"x-b3-flags": "1"}),
        ([b"x-b3-flags: 1", b"x-b3-sampled: 0"], True, {"x-b3-flags": "1"}),
        ([b"x-b3-flags: 0", b"x-b3-sampled: 1"], True, {"x-b3-sampled": "1"}),
        ([b"x-b3-parentspanid: 05e3ac9a4f6e3b90", b"x-b3-sampled: 1"], True, {"x-b3-sampled": "1"}),
    ],
)
def test_b3_in_several_fields_is_gone_on_from_and_answered(
    further: list[bytes], sampled: bool, goes: dict[str, str]
) -> None:
    trace = tracer(NEVER).begin(head(*IDS, *further))
    assert trace.sampled is sampled
    assert sent(trace) == {
        "traceparent": f"00-{TRACE_ID}-{trace.span_id.decode()}-0{sampled:d}",
        "x-b3-traceid": TRACE_ID,
        "x-b3-spanid": trace.span_id.decode(),
        "x-b3-parentspanid": SPAN_ID,
        **goes,
    }


@pytest.mark.parametrize(
    "fields",
    [
        [b"b3: "],
        [b"b3: 2"],
        [b"b3: true"],
        [f"b3: {TRACE_ID}".encode()],
        [f"b3: {TRACE_ID}-{SPAN_ID}-".encode()],
        [f"b3: {TRACE_ID}-{SPAN_ID}-2".encode()],
        [f"b3: {TRACE_ID}-{SPAN_ID}-05e3ac9a4f6e3b90".encode()],
        [f"b3: {TRACE_ID}-{SPAN_ID}-1-05e3".encode()],
        [f"b3: {TRACE_ID}-{SPAN_ID}-1-05e3ac9a4f6e3b90-1".encode()],
        [f"b3: {TRACE_ID[:-1]}-{SPAN_ID}-1".encode()],
        [f"b3: {TRACE_ID[:-1]}A-{SPAN_ID}-1".encode()],
        [f"b3: {'0' * 32}-{SPAN_ID}-1".encode()],
        [f"b3: {'0' * 16}-{SPAN_ID}-1".encode()],
        [f"b3: {TRACE_ID}-{'0' * 16}-1".encode()],
        [f"b3: {TRACE_ID}-{SPAN_ID}-1".encode()] * 2,
        IDS[:1],
        IDS[1:],
        [*IDS, b"x-b3-sampled: yes"],
        [*IDS, b"x-b3-sampled: 1", b"x-b3-sampled: 1"],
        [*IDS, IDS[0]],
        [*IDS, b"x-b3-parentspanid: 05e3"],
        [f"x-b3-traceid: {TRACE_ID[:-1]}".encode(), IDS[1]],
        [IDS[0], b"x-b3-spanid: 1234"],
        [b"x-b3-sampled: d"],
        [b"x-b3-flags: 0"],
        [b"x-b3-other: 1"],
    ],
)
def test_what_is_invalid_is_dropped_and_a_trace_begins(fields: list[bytes]) -> None:
    request = head(*fields)
    trace = tracer(ALWAYS).begin(request)
    assert trace.parent_id is None
    assert trace.trace_id.decode()[16:] not in (TRACE_ID[16:], SHORT)
    assert sent(trace).keys() == {"traceparent"}
    assert request.lines == [b"GET /a?b=c HTTP/1.1", b"Host: shop.example", b"User-Agent: curl/8"]


def test_w3c_wins_and_b3_is_answered_with_its_ids() -> None:
    other = "a" * 32
    parent = f"traceparent: 00-{other}-{SPAN_ID}-00".encode()
    trace = tracer().begin(head(f"b3: {SHORT}-{SPAN_ID}-d".encode(), *IDS, parent, b"tracestate: foo=1"))
    span = trace.span_id.decode()
    assert sent(trace) == {
        "traceparent": f"00-{other}-{span}-00",
        "tracestate": "foo=1",
        "b3": f"{other}-{span}-0-{SPAN_ID}",
        "x-b3-traceid": other,
        "x-b3-spanid": span,
        "x-b3-parentspanid": SPAN_ID,
        "x-b3-sampled": "0",
    }


def test_b3_takes_the_place_of_an_invalid_parent_and_tracestate_goes_with_that() -> None:
    found = passed_on(f"b3: {TRACE_ID}-{SPAN_ID}-1".encode(), b"traceparent: 00-0-0-0", b"tracestate: foo=1")
    assert found["traceparent"].split("-")[1] == TRACE_ID
    assert "tracestate" not in found


def test_one_field_wins_over_several_unless_it_is_invalid() -> None:
    other = f"{'a' * 32}-{SPAN_ID}-1"
    assert passed_on(f"b3: {other}".encode(), *IDS)["x-b3-traceid"] == "a" * 32
    found = passed_on(b"b3: bad", *IDS)
    assert found["x-b3-traceid"] == TRACE_ID
    assert "b3" not in found


@pytest.mark.parametrize(
    ("formats", "names"),
    [
        (("b3",), {"b3"}),
        (("b3-multi",), {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
        (("w3c", "b3"), {"traceparent", "b3"}),
        ((), set()),
    ],
)
def test_the_forms_that_are_configured(formats: tuple[str, ...], names: set[str]) -> None:
    config = Tracing(formats=formats)  # type: ignore[arg-type]
    assert passed_on(config=config).keys() == names
    # A trace that came in another form goes on in that as well: the next peer may know no other.
    parent = f"traceparent: 00-{TRACE_ID}-{SPAN_ID}-01".encode()
    assert passed_on(parent, b"tracestate: foo=1", config=config).keys() >= names | {"traceparent", "tracestate"}
