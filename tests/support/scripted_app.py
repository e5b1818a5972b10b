"""An HTTP/1.1 app that does what a script says: answers, resets, silence; and writes down every request it gets.

Scripts go by the request's `x-case` field, so one app serves many cases at once.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.support.servers import Server

if TYPE_CHECKING:
    from io import BufferedReader


@dataclass(frozen=True)
class Act:
    """What the app does about one request."""

    how: Literal["answer", "reset", "close", "partial", "garbage", "stall", "half", "half-stall"] = "answer"
    status: int = 200
    fields: tuple[str, ...] = ()
    body: bytes = b"ok"
    #: seconds to wait before it, unless the peer leaves first
    after: float = 0.0
    #: before the request's body is read
    early: bool = False
    #: the connection is kept for the next request
    keep: bool = False


OK = Act()


def status(code: int, *fields: str, **others: object) -> Act:
    """Answer with a status."""
    return Act(status=code, fields=fields, **others)  # type: ignore[arg-type]


RESET = Act("reset")  # a TCP RST once the request has been read
RESET_EARLY = Act("reset", early=True)
CLOSE = Act("close")  # a FIN instead of a response
PARTIAL = Act("partial")  # a FIN in the middle of the response head
GARBAGE = Act("garbage")  # not HTTP
STALL = Act("stall")  # nothing, until the peer gives up
HALF = Act("half")  # a head and half of the body, then a FIN
HALF_STALL = Act("half-stall")  # a head and half of the body, then nothing


class Seen(NamedTuple):
    """A request as it came."""

    app: str
    connection: int  # numbered from 0
    when: float  # monotonic seconds, once its head was there
    line: str
    fields: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    def field(self, name: str) -> str | None:
        """The values of a field, with commas between; None where it is absent."""
        values = [value for found, value in self.fields if found == name]
        return ", ".join(values) if values else None


class ScriptedApp(Server):
    """Plays `OK` where no script was given. A script's last act is repeated for ever."""

    def __init__(self, name: str = "app") -> None:
        super().__init__(self._play)
        self.name = name
        self._scripts: dict[str, list[Act]] = {}
        self._seen: dict[str, list[Seen]] = {}
        self._connections = 0
        self._state = threading.Lock()

    def script(self, case: str, *acts: Act) -> None:
        """Say what becomes of the requests of a case, in the order they come."""
        with self._state:
            self._scripts[case] = list(acts)

    def seen(self, case: str) -> list[Seen]:
        """The requests of a case so far."""
        with self._state:
            return list(self._seen.get(case, ()))

    def _play(self, sock: socket.socket) -> None:
        with self._state:
            number = self._connections
            self._connections += 1
        with sock.makefile("rb") as stream:
            while self._one(sock, stream, number):
                pass

    def _one(self, sock: socket.socket, stream: BufferedReader, number: int) -> bool:
        """Serve one request; say whether there may be another on this connection."""
        lines = _lines(stream)
        if not lines:
            return False
        when = time.monotonic()
        pairs = (line.partition(":") for line in lines[1:])
        fields = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        named = dict(fields)
        case = named.get("x-case", "")
        act = self._next(case)
        body = b"" if act.early else _body(stream, named)
        with self._state:
            self._seen.setdefault(case, []).append(Seen(self.name, number, when, lines[0], fields, body))
        if act.after and select.select([sock], [], [], act.after)[0]:
            return False  # the peer has left
        return self._do(sock, act, lines[0].startswith("HEAD "))

    def _next(self, case: str) -> Act:
        with self._state:
            acts = self._scripts.get(case)
            if not acts:
                return OK
            return acts.pop(0) if len(acts) > 1 else acts[0]

    def _do(self, sock: socket.socket, act: Act, headless: bool) -> bool:
        if act.how == "answer":
            ends = () if act.keep else ("Connection: close",)
            head = (f"HTTP/1.1 {act.status} Scripted", f"Content-Length: {len(act.body)}", *act.fields, *ends, "", "")
            sock.sendall("\r\n".join(head).encode() + (b"" if headless else act.body))
            return act.keep
        if act.how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif act.how == "partial":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
        elif act.how == "garbage":
            sock.sendall(b"220 mail.test ESMTP\r\n\r\n")
        elif act.how in ("half", "half-stall"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        if act.how.endswith("stall"):
            sock.recv(1)
        return False


def _lines(stream: BufferedReader) -> list[str]:
    lines: list[str] = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line.decode("latin-1").rstrip("\r\n"))
    return lines if line else []


def _body(stream: BufferedReader, named: dict[str, str]) -> bytes:
    if "transfer-encoding" not in named:
        return stream.read(int(named.get("content-length", 0)))
    body = b""
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        stream.readline()
    _lines(stream)
    return body
