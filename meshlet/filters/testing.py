"""For tests of filters: a request and a response are played through them, without a proxy or a socket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlet.filters.base import Filter, Outcome
from meshlet.filters.call import Request, Response
from meshlet.filters.chain import Chain
from meshlet.http.head import HeadLimits, RequestHead, ResponseHead
from meshlet.http.request import parse_request
from meshlet.http.response import parse_response, status_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshlet.filters.reply import Reply


@dataclass(frozen=True)
class ClientRequest:
    """What the client sends; `body` in one piece, or in several."""

    method: str = "GET"
    target: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Sequence[bytes] = b""
    peer: str = "192.0.2.1"


@dataclass(frozen=True)
class AppResponse:
    """What the app answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Sequence[bytes] = b""


@dataclass
class Played:
    """What became of it."""

    reply: Reply | None = None  # what a filter answered
    request: Request | None = None  # what the app got; None where it got nothing
    request_body: bytes = b""
    response: Response | None = None  # what the client got of the app's response
    response_body: bytes = b""


async def play(
    filters: Filter | Sequence[Filter], request: ClientRequest, response: AppResponse | None = None
) -> Played:
    """Send `request` through the filters and, where none of them replies, the app's response back.

    Raises what a hook raises.
    """
    answered = AppResponse() if response is None else response
    head = _request_head(request)
    recorder = _Recorder(head, request.peer)
    played = recorder.played
    chain = Chain((filters,) if isinstance(filters, Filter) else filters)
    run = chain.start(recorder, recorder)
    try:
        pieces = _pieces(request.body)
        run.begin(b"", not pieces)
        for piece in pieces:
            run.data(piece)
        if pieces:
            run.end()
        await recorder.request_over()
        if played.reply is None:
            pieces = _pieces(answered.body) if request.method != "HEAD" else ()
            run.response_head(_response_head(answered, request.method), b"", not pieces)
            for piece in pieces:
                run.response_data(piece)
            if pieces:
                run.response_end()
            await recorder.response_over()
    finally:
        status = played.reply.status if played.reply is not None else answered.status
        run.complete(Outcome(status, "", 0.0, len(b"".join(_pieces(request.body))), len(played.response_body)))
    return played


def _pieces(body: bytes | Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(piece for piece in ((body,) if isinstance(body, bytes) else body) if piece)


def _lines(start: str, headers: Mapping[str, str], more: Mapping[str, str]) -> bytes:
    given = {name.lower() for name in headers}
    fields = {**headers, **{name: value for name, value in more.items() if name not in given}}
    return "\r\n".join([start, *(f"{name}: {value}" for name, value in fields.items())]).encode("latin-1")


def _request_head(request: ClientRequest) -> RequestHead:
    more = {"host": "app.test", "x-request-id": "test"}
    length = len(b"".join(_pieces(request.body)))
    if length and "transfer-encoding" not in {name.lower() for name in request.headers}:
        more["content-length"] = str(length)
    return parse_request(_lines(f"{request.method} {request.target} HTTP/1.1", request.headers, more), HeadLimits())


def _response_head(response: AppResponse, method: str) -> ResponseHead:
    more = {}
    if "transfer-encoding" not in {name.lower() for name in response.headers}:
        more["content-length"] = str(len(b"".join(_pieces(response.body))))
    raw = _lines(status_line(response.status).decode(), response.headers, more)
    return parse_response(raw, HeadLimits(), method.encode())


class _Recorder:
    """The sink, and the facts, of a run."""

    listener_name = "test"
    route_name = None
    cluster_name = "app"
    elapsed = 0.0

    def __init__(self, head: RequestHead, peer: str) -> None:
        self.head = head
        self.remote_host = peer
        self.played = Played()
        self._error: BaseException | None = None
        self._request_over = asyncio.Event()
        self._response_over = asyncio.Event()

    async def request_over(self) -> None:
        """Wait for the whole request, a reply or a failure."""
        await self._request_over.wait()
        self._raise()

    async def response_over(self) -> None:
        """Wait for the whole response, a reply or a failure."""
        await self._response_over.wait()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _over(self) -> None:
        self._request_over.set()
        self._response_over.set()

    def request_ready(self, data: bytes, complete: bool) -> None:
        self.played.request = Request(self.head)
        self.played.request_body = data
        if complete:
            self._request_over.set()

    def request_data(self, data: bytes) -> None:
        self.played.request_body += data

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        self._request_over.set()

    def request_wanted(self) -> None:
        pass

    def pause_request(self) -> None:
        pass

    def resume_request(self) -> None:
        pass

    def response_ready(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        self.played.response = Response(head)
        self.played.response_body = data
        if complete:
            self._response_over.set()

    def response_data(self, data: bytes) -> None:
        self.played.response_body += data

    def response_end(self, trailers: tuple[bytes, ...]) -> None:
        self._response_over.set()

    def pause_response(self) -> None:
        pass

    def resume_response(self) -> None:
        pass

    def reply(self, name: str, reply: Reply) -> None:
        self.played.reply = reply
        self._over()

    def filter_failed(self, name: str, error: BaseException) -> None:
        self._error = error
        self._over()
