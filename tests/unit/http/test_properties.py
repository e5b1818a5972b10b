"""Messages made by rule come out as they went in, whatever the pieces; others end in a refusal and nothing worse."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.http.grammar import FIELD, TOKEN
from tests.fuzz import corpus
from tests.fuzz.invariants import check_requests, check_response
from tests.fuzz.mutate import some_cuts
from tests.support import codec, strict

pure = settings(deadline=None, max_examples=200)

NAMES = st.one_of(
    st.sampled_from([b"Accept", b"Cookie", b"x-a", b"X-A", b"Content-Type", b"X-Content-Length", b"Via"]),
    st.lists(st.sampled_from(TOKEN), min_size=1, max_size=8).map(lambda codes: b"y-" + bytes(codes)),
)
VALUES = st.lists(st.sampled_from(FIELD), max_size=12).map(bytes)
OWS = st.sampled_from([b"", b" ", b"\t", b" \t "])
FIELDS = st.lists(st.tuples(NAMES, OWS, VALUES, OWS).map(lambda it: b"%b:%b%b%b" % it), max_size=6)
TARGETS = st.lists(st.sampled_from(b"abc/.%?&=~\xc3\xa4"), max_size=12).map(lambda codes: b"/" + bytes(codes))
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"X-Own"])
EXTENSIONS = st.sampled_from([b"", b";a", b" ; a=b", b';a="b;\\" c"', b";a;b"])
CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=40), EXTENSIONS, st.booleans()), max_size=4)
TRAILERS = st.lists(st.tuples(st.sampled_from([b"Digest", b"x-t"]), VALUES).map(lambda it: b"%b: %b" % it), max_size=3)
RANDOMS = st.integers(0, 1 << 32).map(Random)


class Body(NamedTuple):
    """A body with its framing."""

    field: bytes | None
    wire: bytes
    payload: bytes
    trailers: tuple[bytes, ...] = ()


def chunked(chunks: list[tuple[bytes, bytes, bool]], extension: bytes, trailers: list[bytes]) -> Body:
    wire = b"".join(
        b"%b%b\r\n%b\r\n" % (b"00%X" % len(payload) if padded else b"%x" % len(payload), extension, payload)
        for payload, extension, padded in chunks
    )
    wire += b"0%b\r\n%b\r\n" % (extension, b"".join(line + b"\r\n" for line in trailers))
    payload = b"".join(payload for payload, _, _ in chunks)
    return Body(b"Transfer-Encoding: chunked", wire, payload, tuple(trailers))


BODIES = st.one_of(
    st.binary(max_size=60).map(lambda data: Body(b"Content-Length: %d" % len(data), data, data)),
    st.builds(chunked, CHUNKS, EXTENSIONS, TRAILERS),
)


class Request(NamedTuple):
    """A request, and what should be told of it."""

    method: bytes
    target: bytes
    fields: list[bytes]
    body: Body

    @property
    def wire(self) -> bytes:
        lines = [b"%b %b HTTP/1.1" % (self.method, self.target), b"Host: app", *self.fields]
        if self.body.field is not None:
            lines.insert(1 + len(lines) // 2, self.body.field)
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body.wire


REQUESTS = st.builds(Request, METHODS, TARGETS, FIELDS, st.one_of(st.just(Body(None, b"", b"")), BODIES))


def pieces_of(data: bytes, random: Random) -> list[list[bytes]]:
    return [[data], *some_cuts(random, data)]


@pure
@given(requests=st.lists(REQUESTS, min_size=1, max_size=3), random=RANDOMS)
def test_requests_come_out_as_they_went_in(requests: list[Request], random: Random) -> None:
    wire = b"".join(request.wire for request in requests)
    for pieces in pieces_of(wire, random):
        outcome = codec.read_requests(pieces)
        assert outcome.refusal is None
        assert [(*m.facts[:2], m.body, m.trailers, m.complete) for m in outcome.messages] == [
            (it.method, it.target, it.body.payload, it.body.trailers, True) for it in requests
        ]
        # What is sent on: the same fields in the same order and case, and a body that frames the same bytes.
        for request, message in zip(requests, strict.read_requests(outcome.forwarded), strict=True):
            assert [(name, value) for name, value in message.fields if name.lower() not in HANDLED] == [
                (name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in request.fields)
            ]
            assert message.body == request.body.payload


HANDLED = {b"host", b"content-length", b"transfer-encoding"}


@pure
@given(
    status=st.integers(200, 599).filter(lambda status: status not in {204, 304}),
    reason=VALUES,
    fields=FIELDS,
    body=BODIES,
    random=RANDOMS,
)
def test_responses_come_out_as_they_went_in(
    status: int, reason: bytes, fields: list[bytes], body: Body, random: Random
) -> None:
    lines = [b"HTTP/1.1 %d %b" % (status, reason), *fields, body.field or b""]
    wire = b"\r\n".join(lines) + b"\r\n\r\n" + body.wire
    for pieces in pieces_of(wire, random):
        outcome = codec.read_response(pieces)
        (message,) = outcome.messages
        assert outcome.reusable
        assert message.status == status
        assert (message.body, message.trailers, message.complete) == (body.payload, body.trailers, True)
        assert message.head.split(b"\r\n")[: len(fields) + 1] == lines[:-1]


@pure
@given(data=st.binary(max_size=80), random=RANDOMS)
def test_random_bytes(data: bytes, random: Random) -> None:
    check_requests(data, some_cuts(random, data))
    check_response(data, b"GET", some_cuts(random, data))
    check_response(b"HTTP/1.1 " + data, b"GET", some_cuts(random, b"HTTP/1.1 " + data))


@pure
@given(
    seed=st.sampled_from(corpus.REQUESTS),
    changes=st.lists(st.tuples(st.floats(0, 1), st.one_of(st.binary(max_size=3), st.sampled_from(corpus.PIECES)))),
    random=RANDOMS,
)
def test_requests_with_anything_put_in_anywhere(
    seed: bytes, changes: list[tuple[float, bytes]], random: Random
) -> None:
    data = changed(seed, changes)
    check_requests(data, some_cuts(random, data))


@pure
@given(
    seed=st.sampled_from(corpus.RESPONSES),
    changes=st.lists(st.tuples(st.floats(0, 1), st.one_of(st.binary(max_size=3), st.sampled_from(corpus.PIECES)))),
    method=st.sampled_from(corpus.METHODS),
    random=RANDOMS,
)
def test_responses_with_anything_put_in_anywhere(
    seed: bytes, changes: list[tuple[float, bytes]], method: bytes, random: Random
) -> None:
    data = changed(seed, changes)
    check_response(data, method, some_cuts(random, data))


def changed(data: bytes, changes: list[tuple[float, bytes]]) -> bytes:
    for where, piece in changes:
        at = int(where * len(data))
        data = data[:at] + piece + data[at:]
    return data


@pure
@given(body=st.builds(chunked, CHUNKS, EXTENSIONS, TRAILERS), cut=st.floats(0, 1, exclude_max=True))
def test_a_chunked_body_that_is_cut_short_is_never_complete(body: Body, cut: float) -> None:
    head = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    (message,) = codec.read_requests([head + body.wire[: int(cut * len(body.wire))]]).messages
    assert not message.complete
    assert body.payload.startswith(message.body)
