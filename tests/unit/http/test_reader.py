"""The readers as state machines: pipelining, giving up, tunnels, and what a connection asks of them."""

from __future__ import annotations

import pytest

from meshlet.errors import BadRequest, UpstreamReset
from meshlet.http.head import HeadLimits, RequestHead, ResponseHead
from meshlet.http.reader import RequestReader, ResponseReader, State
from tests.support.codec import ResponseRecorder

GET = b"GET /%d HTTP/1.1\r\nHost: app\r\n\r\n"


class Sink:
    """Remembers the calls; goes on to the next request only when told to."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.reader = RequestReader(self, HeadLimits())
        self.answer_at_once = False
        self.stop_at = b"-"

    def on_request(self, head: RequestHead, data: bytes, complete: bool) -> None:
        self.calls.append((head.target, data, complete))
        if head.target == self.stop_at:
            self.reader.stop()
        elif complete and self.answer_at_once:
            self.reader.next()

    def on_data(self, data: bytes) -> None:
        self.calls.append(data)

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        self.calls.append(trailers)
        if self.answer_at_once:
            self.reader.next()


def post(framing: bytes, body: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: app\r\n%b\r\n\r\n%b" % (framing, body)


# --- requests ---


def test_a_head_brings_what_came_of_its_body() -> None:
    sink = Sink()
    sink.reader.feed(post(b"Content-Length: 5", b"he"))
    assert sink.reader.state.name == "FIXED"
    sink.reader.feed(b"ll")
    sink.reader.feed(b"o")
    assert sink.calls == [(b"/p", b"he", False), b"ll", b"o", ()]
    assert sink.reader.state is State.DONE


def test_a_short_message_is_one_call() -> None:
    for wire in (
        post(b"Content-Length: 5", b"hello"),
        post(b"Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ):
        sink = Sink()
        sink.reader.feed(wire)
        assert sink.calls == [(b"/p", b"hello", True)]
        assert sink.reader.state is State.DONE


def test_trailers_that_came_with_the_head_are_told_after_it() -> None:
    sink = Sink()
    sink.answer_at_once = True
    sink.reader.feed(post(b"Transfer-Encoding: chunked", b"1\r\nx\r\n0\r\nA: b\r\n\r\n") + GET % 2)
    assert sink.calls == [(b"/p", b"x", False), (b"A: b",), (b"/2", b"", True)]


def test_many_small_chunks_that_come_together_are_one_piece() -> None:
    sink = Sink()
    sink.reader.feed(post(b"Transfer-Encoding: chunked", b""))
    sink.reader.feed(b"1\r\nx\r\n" * 1000 + b"0")
    sink.reader.feed(b"\r\n\r\n")
    assert sink.calls == [(b"/p", b"", False), b"x" * 1000, ()]


def test_a_refused_body_is_refused_with_its_head_where_both_came_together() -> None:
    sink = Sink()
    with pytest.raises(BadRequest):
        sink.reader.feed(post(b"Transfer-Encoding: chunked", b"1\r\nx\r\nno"))
    assert sink.calls == []


def test_pipelined_requests_wait_for_each_answer() -> None:
    sink = Sink()
    wire = GET % 1 + post(b"Content-Length: 2", b"ab") + GET % 3
    sink.reader.feed(wire)
    assert sink.calls == [(b"/1", b"", True)]
    assert sink.reader.waiting == len(wire) - len(GET % 1)
    sink.reader.feed(GET % 4)
    assert sink.reader.waiting == len(wire)
    sink.reader.next()
    assert sink.calls[1:] == [(b"/p", b"ab", True)]
    sink.reader.next()
    sink.reader.next()
    assert sink.calls[2:] == [(b"/3", b"", True), (b"/4", b"", True)]
    sink.reader.next()
    assert sink.reader.state is State.HEAD
    assert sink.reader.waiting == 0


def test_what_waits_may_be_refused_when_its_turn_comes() -> None:
    sink = Sink()
    sink.reader.feed(GET % 1 + b"\x00")
    assert len(sink.calls) == 1
    with pytest.raises(BadRequest):
        sink.reader.next()


def test_a_long_pipeline_that_is_answered_at_once_takes_many_turns_and_no_deep_recursion() -> None:
    sink = Sink()
    sink.answer_at_once = True
    sink.reader.feed(b"".join(GET % n for n in range(5000)))
    assert turns(sink) >= 5000 // 8 - 1
    assert len(sink.calls) == 5000
    sink.reader.feed(GET % 1)
    sink.answer_at_once = False
    sink.reader.feed(GET % 2 + b"".join(GET % n for n in range(5000)))
    sink.answer_at_once = True
    sink.reader.next()
    assert turns(sink) >= 5000 // 8 - 1
    assert len(sink.calls) == 10002


def turns(sink: Sink) -> int:
    """Go on to the end of what is in hand, a turn's worth at a time."""
    count = 0
    while sink.reader.behind:
        before = len(sink.calls)
        sink.reader.feed(b"")
        assert 0 < len(sink.calls) - before <= 8
        count += 1
    return count


def test_big_heads_fill_a_turn_by_their_bytes() -> None:
    sink = Sink()
    sink.answer_at_once = True
    big = (GET % 1).replace(b"\r\n\r\n", b"\r\nA: %b\r\n\r\n" % (b"x" * 20_000))
    sink.reader.feed(big * 12)
    assert len(sink.calls) == 1
    sink.reader.feed(b"")
    assert len(sink.calls) == 2
    assert turns(sink) == 10
    assert len(sink.calls) == 12


@pytest.mark.parametrize("payload", [b"x", b"\n", b"\r\n", b"123456789abcdef", b"0\r\n\r\n", b"1\r\nx\r\n"])
def test_small_chunks_fill_a_turn_by_their_number(payload: bytes) -> None:
    sink = Sink()
    chunk = b"%x\r\n%b\r\n" % (len(payload), payload)
    sink.reader.feed(post(b"Transfer-Encoding: chunked", b""))
    sink.reader.feed(chunk * 20_000 + b"0\r\n\r\n")
    while sink.reader.behind:
        before = len(sink.calls)
        sink.reader.feed(b"")
        assert len(sink.calls) - before <= 2
    assert sink.calls[-1] == ()
    pieces = [call for call in sink.calls[1:-1] if isinstance(call, bytes)]
    assert b"".join(pieces) == payload * 20_000
    assert max(map(len, pieces)) <= 16_384


def test_larger_chunks_fill_a_turn_too() -> None:
    sink = Sink()
    sink.reader.feed(post(b"Transfer-Encoding: chunked", b""))
    sink.reader.feed((b"10;a=b\r\n%b\r\n" % (b"x" * 16)) * 400 + b"0\r\n\r\n")
    assert sink.calls[1] == b"x" * 16 * 256
    assert sink.reader.behind
    sink.reader.feed(b"")
    assert sink.calls[2:] == [b"x" * 16 * 144, ()]


def test_what_comes_behind_a_turn_comes_after_it() -> None:
    sink = Sink()
    sink.answer_at_once = True
    sink.reader.feed(b"".join(GET % n for n in range(20)) + b"GET /20 HTT")
    sink.reader.feed(b"P/1.1\r\nHost: app\r\n\r\n" + GET % 21)
    turns(sink)
    assert sink.calls == [(b"/%d" % n, b"", True) for n in range(22)]


def test_a_stopped_reader_has_nothing_in_hand() -> None:
    sink = Sink()
    sink.answer_at_once = True
    sink.reader.feed(b"".join(GET % n for n in range(20)))
    sink.reader.stop()
    assert not sink.reader.behind
    sink.reader.feed(GET % 1)
    assert len(sink.calls) == 8


def feed_all(sink: Sink, pieces: list[bytes]) -> None:
    for piece in pieces:
        sink.reader.feed(piece)


def test_empty_lines_without_end_are_refused() -> None:
    for pieces in ([b"\r\n" * 65], [b"\r\n"] * 65, [b"\r", b"\n"] * 65, [b"\r\n\r"] + [b"\n\r"] * 64):
        sink = Sink()
        with pytest.raises(BadRequest, match="64 empty lines"):
            feed_all(sink, pieces)
    sink = Sink()
    sink.answer_at_once = True
    for n in range(5):
        sink.reader.feed(b"\r\n" * 64 + GET % n)
    assert len(sink.calls) == 5


def test_half_a_pipelined_head_goes_on_where_it_was_cut() -> None:
    sink = Sink()
    sink.reader.feed(GET % 1 + b"GET /2 HT")
    sink.reader.feed(b"TP/1.1\r\nHost")
    sink.reader.next()
    assert sink.reader.head_began
    sink.reader.feed(b": app\r\n\r\n")
    assert sink.calls == [(b"/1", b"", True), (b"/2", b"", True)]


def test_whether_a_head_began() -> None:
    sink = Sink()
    began = [sink.reader.head_began]
    for piece in (b"\r\n\r\n", b"\r", b"\n", b"G", (GET % 1)[1:]):
        sink.reader.feed(piece)
        began.append(sink.reader.head_began)
    assert began == [False, False, False, False, True, False]


def test_a_reader_that_is_stopped_takes_nothing_more() -> None:
    sink = Sink()
    sink.stop_at = b"/1"
    sink.reader.feed(GET % 1 + GET % 2)
    sink.reader.feed(GET % 3)
    assert sink.calls == [(b"/1", b"", True)]
    assert sink.reader.state is State.STOPPED


@pytest.mark.parametrize(
    ("framing", "body", "told"),
    [
        (b"Content-Length: 5", b"hello", (b"hello", True)),
        (b"Content-Length: 5", b"hel", (b"hel", False)),
        (b"Transfer-Encoding: chunked", b"1\r\nx\r\n", (b"x", False)),
        (b"Transfer-Encoding: chunked", b"1\r\nx\r\n0\r\nA: b\r\n\r\n" + GET % 2, (b"x", False)),
    ],
)
def test_a_reader_that_is_stopped_within_the_head_does_not_go_on_with_the_body(
    framing: bytes, body: bytes, told: tuple[bytes, bool]
) -> None:
    sink = Sink()
    sink.stop_at = b"/p"
    sink.reader.feed(post(framing, body))
    sink.reader.feed(b"more")
    assert sink.calls == [(b"/p", *told)]
    assert sink.reader.state is State.STOPPED


def test_a_tunnel_gets_what_came_after_the_request() -> None:
    sink = Sink()
    sink.reader.feed(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\x00\x01")
    sink.reader.feed(b"\x02")
    assert sink.reader.tunnel() == b"\x00\x01\x02"
    assert sink.reader.state is State.TUNNEL


def test_a_tunnel_without_bytes_ahead() -> None:
    sink = Sink()
    sink.reader.feed(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    assert sink.reader.tunnel() == b""


# --- responses ---


def expecting(method: bytes = b"GET") -> tuple[ResponseReader, ResponseRecorder]:
    reader, recorder = ResponseReader(HeadLimits()), ResponseRecorder()
    reader.expect(method, recorder)
    return reader, recorder


def test_one_response_after_another() -> None:
    reader, recorder = expecting()
    for _ in range(3):
        reader.expect(b"GET", recorder)
        began = [reader.began]
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Le")
        began.append(reader.began)
        assert began == [False, True]
        reader.feed(b"ngth: 1\r\n\r\nx")
        assert reader.state is State.DONE
        assert not reader.surplus
    assert [message.body for message in recorder.messages] == [b"x"] * 3


def test_the_method_decides_whether_there_is_a_body() -> None:
    reader, recorder = expecting(b"HEAD")
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
    reader.expect(b"GET", recorder)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert [message.body for message in recorder.messages] == [b"", b"x"]


def test_bytes_that_nobody_asked_for() -> None:
    reader = ResponseReader(HeadLimits())
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    assert reader.surplus


class Eager(ResponseRecorder):
    """Sends the next request as soon as one is answered."""

    def __init__(self, reader: ResponseReader) -> None:
        super().__init__()
        self.reader = reader
        self.surplus: list[bool] = []

    def on_response(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        super().on_response(head, data, complete)
        if complete:
            self.surplus.append(self.reader.surplus)
            self.reader.expect(b"GET", self)

    def on_end(self, trailers: tuple[bytes, ...]) -> None:
        super().on_end(trailers)
        self.surplus.append(self.reader.surplus)
        self.reader.expect(b"GET", self)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
    ],
)
def test_surplus_is_known_before_the_end_is_told_and_never_answers_the_next_request(first: bytes) -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for pieces in ([first + forged], [first[:-1], first[-1:] + forged]):
        reader = ResponseReader(HeadLimits())
        sink = Eager(reader)
        reader.expect(b"GET", sink)
        for piece in pieces:
            reader.feed(piece)
        assert sink.surplus == [True]
        assert len(sink.messages) == 1


def test_the_end_of_the_stream() -> None:
    reader, _ = expecting()
    with pytest.raises(UpstreamReset, match="before it responded"):
        reader.eof()
    reader.feed(b"HTTP")
    with pytest.raises(UpstreamReset, match="within a response head"):
        reader.eof()
    reader.feed(b"/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
    with pytest.raises(UpstreamReset, match="complete"):
        reader.eof()
    reader.feed(b"x")
    reader.eof()


def test_a_stopped_reader_takes_nothing_more() -> None:
    reader, recorder = expecting()
    reader.stop()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    assert recorder.messages == []


def test_bytes_of_a_tunnel_are_kept_until_it_is_joined() -> None:
    reader, _ = expecting(b"CONNECT")
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    reader.feed(b"a")
    reader.feed(b"b")
    assert reader.tunnel() == b"ab"
