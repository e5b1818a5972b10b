"""A DNS server for tests: it answers over UDP on loopback what a test puts into its table."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


class DnsServer(asyncio.DatagramProtocol):
    """`records` has texts by name and type, such as `("app.test", "A"): (30, ["10.0.0.1"])` with the time to live.

    A name without any record does not exist. `rcode` is answered instead where it is set; `mute` answers nothing.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.rcode: dns.rcode.Rcode | None = None
        self.mute = False
        # types of records: questions for them are answered with NXDOMAIN, or with SERVFAIL
        self.denied = ""
        self.broken = ""
        # types of records: questions for them are never answered, or so many seconds late
        self.silent = ""
        self.late: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []

    async def __aenter__(self) -> Self:
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.address = "{}:{}".format(*self._transport.get_extra_info("sockname"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.mute or kind == self.silent:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if self.rcode is not None:
            answer.set_rcode(self.rcode)
        elif kind in (self.denied, self.broken):
            answer.set_rcode(dns.rcode.NXDOMAIN if kind == self.denied else dns.rcode.SERVFAIL)
        else:
            self._fill(answer, name, kind)
        wire = answer.to_wire()
        asyncio.get_running_loop().call_later(self.late.get(kind, 0), lambda: self._send(wire, addr))

    def _send(self, wire: bytes, addr: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(wire, addr)

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        if not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        for each in (kind, "CNAME"):
            if (name, each) in self.records:
                ttl, texts = self.records[name, each]
                answer.answer.append(dns.rrset.from_text(dns.name.from_text(name), ttl, "IN", each, *texts))
                if each == "CNAME":
                    self._fill(answer, texts[0].rstrip("."), kind)
                return


@contextmanager
def dns_server() -> Iterator[DnsServer]:
    """A server in a thread of its own, for tests that are no coroutines."""
    server = DnsServer()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(server.__aenter__())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
