from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.config.schema import Tracing
from meshlet.telemetry.tracing.context import read, read_tracestate
from tests.unit.telemetry.tracing.samples import SPAN_ID, TRACE_ID, head, passed_on, sent, tracer

GOOD = f"00-{TRACE_ID}-{SPAN_ID}-00"
PARENT = b"traceparent: " + GOOD.encode()

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")
KEY = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
TRACESTATE = re.compile(rf"{KEY}={VALUE}(?:,{KEY}={VALUE}){{0,31}}")


def trace_id(*fields: bytes) -> str:
    found = passed_on(*fields)
    assert TRACEPARENT.fullmatch(found["traceparent"])
    return found["traceparent"].split("-")[1]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(GOOD, id="version 00"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01", id="a later version"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-be-like", id="a later version with more fields"),
        pytest.param(f"fe-{TRACE_ID}-{SPAN_ID}-01-", id="a later version with an empty field"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-ff", id="flags that nobody knows"),
        pytest.param(f"  {GOOD}", id="spaces before"),
        pytest.param(f"\t{GOOD}", id="a tab before"),
        pytest.param(f"{GOOD} ", id="a space behind"),
        pytest.param(f"\t {GOOD} \t", id="white space around"),
    ],
)
def test_a_valid_parent_is_gone_on_from(value: str) -> None:
    trace = tracer().begin(head(f"traceparent:{value}".encode()))
    assert trace.trace_id == TRACE_ID.encode()
    assert trace.parent_id == SPAN_ID.encode()
    found = sent(trace)["traceparent"]
    assert TRACEPARENT.fullmatch(found)
    assert found.split("-")[1] == TRACE_ID
    assert found.split("-")[2] != SPAN_ID


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param(f"{GOOD}.", id="00 with a character behind"),
        pytest.param(f"{GOOD}-", id="00 with a dash behind"),
        pytest.param(f"{GOOD}-what-the-future-will-be-like", id="00 with more fields"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-01.what-the-future-will-not-be-like", id="later without a dash"),
        pytest.param(f"cc-{TRACE_ID}-{SPAN_ID}-0", id="later and too short"),
        pytest.param(f"ff-{TRACE_ID}-{SPAN_ID}-01", id="ff"),
        pytest.param(f".0-{TRACE_ID}-{SPAN_ID}-01", id="version .0"),
        pytest.param(f"0.-{TRACE_ID}-{SPAN_ID}-01", id="version 0."),
        pytest.param(f"CC-{TRACE_ID}-{SPAN_ID}-01", id="version in upper case"),
        pytest.param(f"000-{TRACE_ID}-{SPAN_ID}-01", id="version of 3"),
        pytest.param(f"0000-{TRACE_ID}-{SPAN_ID}-01", id="version of 4"),
        pytest.param(f"0-{TRACE_ID}-{SPAN_ID}-01", id="version of 1"),
        pytest.param(f"00-{'0' * 32}-{SPAN_ID}-01", id="trace id of zeros"),
        pytest.param(f"00-.{TRACE_ID[1:]}-{SPAN_ID}-01", id="trace id with a dot first"),
        pytest.param(f"00-{TRACE_ID[:-1]}.-{SPAN_ID}-01", id="trace id with a dot last"),
        pytest.param(f"00-{TRACE_ID[:-1]}A-{SPAN_ID}-01", id="trace id in upper case"),
        pytest.param(f"00-{TRACE_ID}3-{SPAN_ID}-01", id="trace id of 33"),
        pytest.param(f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01", id="trace id of 31"),
        pytest.param(f"00-{TRACE_ID}-{'0' * 16}-01", id="parent id of zeros"),
        pytest.param(f"00-{TRACE_ID}-.{SPAN_ID[1:]}-01", id="parent id with a dot first"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID[:-1]}.-01", id="parent id with a dot last"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}7-01", id="parent id of 17"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID[:-1]}-01", id="parent id of 15"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-.0", id="flags .0"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-0.", id="flags 0."),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-0A", id="flags in upper case"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-001", id="flags of 3"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}-1", id="flags of 1"),
        pytest.param(f"00-{TRACE_ID}-{SPAN_ID}", id="no flags"),
        pytest.param(f"{GOOD},{GOOD}", id="two in one field"),
    ],
)
def test_after_an_invalid_parent_a_new_trace_begins(value: str) -> None:
    trace = tracer().begin(head(f"traceparent: {value}".encode(), b"tracestate: foo=1"))
    assert trace.trace_id.decode() not in {TRACE_ID, value[3:35], "0" * 32}
    assert trace.parent_id is None
    found = sent(trace)
    assert TRACEPARENT.fullmatch(found["traceparent"])
    assert found.keys() == {"traceparent"}


def test_two_parents_are_none() -> None:
    other = PARENT.replace(b"9012-", b"9011-")
    assert trace_id(other, PARENT) not in {TRACE_ID, "12345678901234567890123456789011"}
    assert trace_id(PARENT, PARENT) != TRACE_ID


@pytest.mark.parametrize(
    ("parent", "state"),
    [(b"TraceParent", b"TraceState"), (b"TrAcEpArEnT", b"TrAcEsTaTe"), (b"TRACEPARENT", b"TRACESTATE")],
)
def test_the_case_of_the_names_is_of_no_matter(parent: bytes, state: bytes) -> None:
    found = passed_on(PARENT.replace(b"traceparent", parent), state + b": foo=1")
    assert found["traceparent"].split("-")[1] == TRACE_ID
    assert found["tracestate"] == "foo=1"


@pytest.mark.parametrize(
    ("came", "goes"), [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("fc", "00"), ("ff", "03"), ("09", "01")]
)
def test_the_flags_that_have_a_meaning_are_passed_on(came: str, goes: str) -> None:
    trace = tracer().begin(head(f"traceparent: 00-{TRACE_ID}-{SPAN_ID}-{came}".encode()))
    assert sent(trace)["traceparent"].endswith("-" + goes)
    assert trace.sampled == (goes in ("01", "03"))


@pytest.mark.parametrize(
    ("fields", "goes"),
    [
        pytest.param([b"foo=1,bar=2"], "foo=1,bar=2", id="one field"),
        pytest.param([b"foo=1,bar=2", b"rojo=1,congo=2", b"baz=3"], "foo=1,bar=2,rojo=1,congo=2,baz=3", id="several"),
        pytest.param([b""], None, id="empty"),
        pytest.param([b" ,\t,, "], None, id="empty members"),
        pytest.param([b"foo=1", b""], "foo=1", id="an empty one behind"),
        pytest.param([b"", b"foo=1"], "foo=1", id="an empty one before"),
        pytest.param([b"foo=1,,bar=2,"], "foo=1,bar=2", id="an empty member"),
        pytest.param([b"foo=1,foo=1"], "foo=1", id="the same twice"),
        pytest.param([b"foo=1,foo=2"], "foo=1", id="a key twice"),
        pytest.param([b"foo=2", b"bar=3,foo=1"], "foo=2,bar=3", id="a key in two fields"),
        pytest.param([b"foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3", id="white space around members"),
        pytest.param([b"foo=1\t \t,\t \tbar=2"], "foo=1,bar=2", id="tabs around members"),
        pytest.param([b"\t foo=1 \t"], "foo=1", id="white space around the list"),
        pytest.param([b"foo=  1"], "foo=  1", id="spaces before a value belong to it"),
        pytest.param([b"foo@=1,bar=2"], "foo@=1,bar=2", id="an at sign last"),
        pytest.param([b"foo@@bar=1,bar=2"], "foo@@bar=1,bar=2", id="two at signs"),
        pytest.param([b"foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2", id="at signs apart"),
        pytest.param([b"1a=1"], "1a=1", id="a digit first"),
        pytest.param([b"foo=1", b"z" * 256 + b"=1"], f"foo=1,{'z' * 256}=1", id="key of 256"),
        pytest.param([b"t" * 241 + b"@" + b"v" * 14 + b"=1"], f"{'t' * 241}@{'v' * 14}=1", id="key of 241@14"),
        pytest.param([b"t" * 242 + b"@v=1"], f"{'t' * 242}@v=1", id="key of 242@1"),
        pytest.param([b"t@" + b"v" * 15 + b"=1"], f"t@{'v' * 15}=1", id="key of 1@15"),
        pytest.param([b"foo=" + b"v" * 256], f"foo={'v' * 256}", id="value of 256"),
        pytest.param([b"foo=1", b"z" * 257 + b"=1"], None, id="key of 257"),
        pytest.param([b"foo=" + b"v" * 257], None, id="value of 257"),
        pytest.param([b"foo =1"], None, id="a space in a key"),
        pytest.param([b"FOO=1"], None, id="a key in upper case"),
        pytest.param([b"foo.bar=1"], None, id="a dot in a key"),
        pytest.param([b"@foo=1,bar=2"], None, id="an at sign first"),
        pytest.param([b"_foo=1"], None, id="an underscore first"),
        pytest.param([b"=1"], None, id="no key"),
        pytest.param([b"foo"], None, id="no value"),
        pytest.param([b"foo=,bar=3"], None, id="an empty value"),
        pytest.param([b"foo=bar=baz"], None, id="an equals sign in a value"),
        pytest.param([b"foo=\x7f"], None, id="DEL in a value"),
        pytest.param([b"foo=b\tr"], None, id="a tab in a value"),
        pytest.param([b"foo=\xe4"], None, id="no ASCII"),
        pytest.param([b"bar=2", b"foo"], None, id="one bad member is enough"),
    ],
)
def test_tracestate(fields: list[bytes], goes: str | None) -> None:
    found = passed_on(PARENT, *[b"tracestate: " + value for value in fields])
    assert found["traceparent"].split("-")[1] == TRACE_ID, "tracestate must not have an effect on traceparent"
    assert found.get("tracestate") == goes


def test_all_the_characters_that_tracestate_may_hold() -> None:
    key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
    value = "".join(chr(c) for c in range(0x20, 0x7F) if c not in (0x2C, 0x3D))
    for name in (key, key + "@a-z0-9_-*/"):
        assert passed_on(PARENT, f"tracestate: {name}={value}".encode())["tracestate"] == f"{name}={value}"


def test_32_members_are_passed_on_and_33_are_not() -> None:
    members = [f"bar{n:02}={n:02}" for n in range(1, 34)]
    fields = [f"tracestate: {','.join(members[n : n + 10])}".encode() for n in range(0, 32, 10)]
    assert passed_on(PARENT, *fields[:3], b"tracestate: bar31=31,bar32=32")["tracestate"] == ",".join(members[:32])
    assert "tracestate" not in passed_on(PARENT, *fields)


def test_tracestate_without_a_parent_is_dropped() -> None:
    assert passed_on(b"tracestate: foo=1").keys() == {"traceparent"}
    assert passed_on(b"tracestate: foo=1", b"tracestate: bar=1").keys() == {"traceparent"}


def test_what_came_is_taken_out_of_the_lines() -> None:
    request = head(PARENT, b"tracestate: foo=1")
    tracer().begin(request)
    assert request.lines == [b"GET /a?b=c HTTP/1.1", b"Host: shop.example", b"User-Agent: curl/8"]


def test_a_field_that_connection_named_away_is_no_longer_among_the_lines() -> None:
    request = head(PARENT)
    request.lines.remove(PARENT)
    assert tracer().begin(request).trace_id == TRACE_ID.encode()


def test_each_request_has_a_span_of_its_own() -> None:
    one = tracer()
    spans = {one.begin(head(PARENT)).span_id for _ in range(3)} | {one.begin(head()).span_id for _ in range(3)}
    assert len(spans) == 6


line = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda name, value: name + b":" + value,
        st.sampled_from(
            [b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled", b"X-B3-Flags"]
        ),
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from([GOOD.encode(), TRACE_ID.encode(), SPAN_ID.encode(), b"1", b"0", b"d", b"foo=1", b""]),
            st.from_regex(rb"\A[0-9a-c]{2}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}-?\Z"),
        ),
    ),
)


@given(st.lists(line, max_size=6))
def test_whatever_comes_what_goes_is_valid(fields: list[bytes]) -> None:
    config = Tracing(formats=("w3c", "b3", "b3-multi"))
    found = passed_on(*fields, config=config)
    parent = found["traceparent"]
    assert TRACEPARENT.fullmatch(parent)
    assert "tracestate" not in found or TRACESTATE.fullmatch(found["tracestate"])
    assert re.fullmatch(r"(?:[0-9a-f]{16}){1,2}-[0-9a-f]{16}-[01d](?:-[0-9a-f]{16})?", found["b3"])
    # All forms tell of the same trace and span.
    assert found["b3"].split("-")[0].rjust(32, "0") == found["x-b3-traceid"].rjust(32, "0") == parent.split("-")[1]
    assert found["b3"].split("-")[1] == found["x-b3-spanid"] == parent.split("-")[2]


@given(st.lists(st.tuples(st.from_regex(KEY, fullmatch=True), st.from_regex(VALUE, fullmatch=True)), max_size=32))
def test_a_valid_tracestate_comes_through(members: list[tuple[str, str]]) -> None:
    unique = dict(reversed(members))
    text = ",".join(f"{key}={unique[key]}" for key in dict.fromkeys(key for key, _ in members))
    joined = ",".join(f"{key}={value}" for key, value in members)
    assert read_tracestate([joined.encode()]) == (text.encode() or None)


@given(
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(0, 255),
    st.sampled_from([0, 1, 0x42, 0xCC, 0xFE]),
)
def test_a_valid_parent_comes_through(trace: int, span: int, flags: int, version: int) -> None:
    found = read([b"traceparent: %02x-%032x-%016x-%02x" % (version, trace, span, flags)])
    assert found is not None
    assert found.trace_id == b"%032x" % trace
    assert found.parent_id == b"%016x" % span
    assert found.flags == flags & 3
