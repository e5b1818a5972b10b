"""A sink that records what comes out of a run, and heads to put in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlet.filters.chain import Chain
from meshlet.http.head import HeadLimits, RequestHead, ResponseHead
from meshlet.http.request import parse_request
from meshlet.http.response import parse_response

if TYPE_CHECKING:
    from meshlet.filters import Filter, Reply
    from meshlet.filters.run import ChainRun


def request_head(*lines: str, start: str = "POST /a?b=c HTTP/1.1", host: str | None = "app") -> RequestHead:
    fields = [f"Host: {host}"] if host is not None else []
    return parse_request("\r\n".join([start, *fields, *lines]).encode("latin-1"), HeadLimits())


def response_head(*lines: str, status: int = 200, method: bytes = b"GET") -> ResponseHead:
    return parse_response("\r\n".join([f"HTTP/1.1 {status} OK", *lines]).encode("latin-1"), HeadLimits(), method)


@dataclass
class World:
    """The exchange around a run: facts for the filters, and a list of what they let through."""

    head: RequestHead = field(default_factory=lambda: request_head("Content-Length: 6"))
    remote_host: str = "192.0.2.7"
    listener_name: str = "inbound"
    route_name: str | None = "orders"
    cluster_name: str | None = "app"
    elapsed: float = 1.5
    seen: list[object] = field(default_factory=list)
    failure: BaseException | None = None
    answer: Reply | None = None

    def start(self, *filters: Filter) -> ChainRun:
        return Chain(filters).start(self, self)

    def take(self) -> list[object]:
        """What came since the last time."""
        seen, self.seen = self.seen, []
        return seen

    def request_ready(self, data: bytes, complete: bool) -> None:
        self.seen.append(("request", data, complete))

    def request_data(self, data: bytes) -> None:
        self.seen.append(data)

    def request_end(self, trailers: tuple[bytes, ...]) -> None:
        self.seen.append(("end", *trailers))

    def request_wanted(self) -> None:
        self.seen.append("wanted")

    def pause_request(self) -> None:
        self.seen.append("pause")

    def resume_request(self) -> None:
        self.seen.append("resume")

    def response_ready(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        self.seen.append(("response", data, complete))

    def response_data(self, data: bytes) -> None:
        self.seen.append(data)

    def response_end(self, trailers: tuple[bytes, ...]) -> None:
        self.seen.append(("end", *trailers))

    def pause_response(self) -> None:
        self.seen.append("pause")

    def resume_response(self) -> None:
        self.seen.append("resume")

    def reply(self, name: str, reply: Reply) -> None:
        self.answer = reply
        self.seen.append(("reply", reply.status))

    def filter_failed(self, name: str, error: BaseException) -> None:
        self.failure = error
        self.seen.append(("failed", name))
