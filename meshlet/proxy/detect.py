"""Listeners of protocol `auto`: what is this connection? Its first bytes say, and are passed on untouched."""

from __future__ import annotations

import asyncio
import re
from enum import Enum
from typing import TYPE_CHECKING

from meshlet.http.grammar import TOKEN
from meshlet.proxy.downstream import DownstreamConnection
from meshlet.proxy.tcp import TcpConnection
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.proxy.listener import Listener


class Verdict(Enum):
    """What the first bytes of a connection are; the value is the metric's label."""

    HTTP = "http"
    HTTP2 = "http2"
    TLS = "tls"
    TCP = "tcp"
    UNKNOWN = "unknown"  # too few bytes


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 section 3.4
_TLS_HANDSHAKE = 0x16  # the type of the first record; version 3.x follows (RFC 8446 section 5.1)
_METHODS = tuple(
    method + b" " for method in b"GET HEAD POST PUT DELETE PATCH OPTIONS CONNECT TRACE PROPFIND REPORT".split()
)
_LONGEST_METHOD = max(map(len, _METHODS))
_FIRST_OF_LINE = frozenset(TOKEN + b" \t\r\n")
_METHOD_AND_PATH = re.compile(rb"[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ \t]+(?:/|\*[ \t]|https?://)", re.IGNORECASE)
_VERSION = re.compile(rb"HTTP/[0-9]", re.IGNORECASE)
# A line that is longer and looks like none of these is no request line.
_LONGEST_LINE = 4096

# While draining, a connection without a word yet gets one more moment to say it.
_DRAIN_SILENT = 1.0  # seconds


def classify(data: bytes) -> Verdict:
    """Say what a connection is that begins with `data`.

    What begins with a well-known method, or with a word and a path, or names an HTTP version is HTTP, however
    malformed and however long: it must meet the parser and its refusal, not slip through to the app as TCP.
    """
    if data[0] == _TLS_HANDSHAKE:
        return Verdict.UNKNOWN if len(data) == 1 else Verdict.TLS if data[1] == 3 else Verdict.TCP
    if data.startswith(_PREFACE):
        return Verdict.HTTP2
    if _PREFACE.startswith(data):
        return Verdict.UNKNOWN
    text = data.lstrip(b"\r\n")
    line, newline, _ = text.partition(b"\n")
    # Behind a line of text a version may stand in a later one; binary protocols may carry one in their payload.
    searched = text if text and text[0] in _FIRST_OF_LINE else line
    if text.startswith(_METHODS) or _METHOD_AND_PATH.match(text) or _VERSION.search(searched):
        return Verdict.HTTP
    if newline or len(line) > _LONGEST_LINE:
        return Verdict.TCP
    if text and (text[0] not in _FIRST_OF_LINE or 0 in text):
        return Verdict.TCP
    return Verdict.UNKNOWN


class DetectingConnection(TcpConnection):
    """Waits for the client's first bytes. `wake` belongs to `Timers`.

    A client that stays silent may be waiting for the app to speak first, as with SMTP or MySQL: so the app is dialled,
    and whoever speaks first decides.
    """

    def __init__(self, listener: Listener, peer: object) -> None:
        super().__init__(listener, peer)
        self.wake = NEVER
        self._decided = False

    def _begin(self) -> None:
        runtime = self._listener.runtime
        runtime.timers.schedule(self, runtime.clock() + self._settings.limits.detect_timeout)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._decided:
            return
        verdict = classify(bytes(self.early))
        if verdict is Verdict.HTTP:
            self._become_http()
        elif verdict is not Verdict.UNKNOWN:
            self._decide(verdict)
        else:  # perhaps silent for a while, then a word too short to tell
            self._begin()

    def eof_received(self) -> bool:
        super().eof_received()
        if not self._decided and not self.early and self._dialling is None:
            self._give_up("", "")  # it came and went: a probe, most likely
            return False
        self._decide(Verdict.TCP)
        return True

    def on_app_word(self) -> None:
        self._decide(Verdict.TCP)

    def on_timer(self, now: float) -> float:
        """The client was silent, or said too little, for long enough."""
        if self.early and self.early[0] == _TLS_HANDSHAKE:
            self._decide(Verdict.TCP)
        elif self.early:
            # This may be the beginning of a request line. Were it relayed as TCP, a client could carry any request
            # past every check just by sending its first bytes slowly; so it gets the time of a request head, no more.
            self._become_http()
        elif self._listener.draining:
            self._give_up("", "meshlet drains")
        elif self._dialling is None:
            self._dial()
            return now + self._settings.limits.tcp_idle_timeout
        else:
            self._give_up("SI", "neither the client nor the app has said anything")
        return NEVER

    def _decide(self, verdict: Verdict) -> None:
        if not self._decided and not self._over:
            self._decided = True
            self._listener.detected(verdict.value)
            self._listener.runtime.timers.cancel(self)
            self._count()
            self._dial()
            if self._may_join():
                self._join()

    def _may_join(self) -> bool:
        return self._decided and super()._may_join()

    def _become_http(self) -> None:
        self._decided = True
        self._over = True  # as a TCP connection
        self._listener.detected(Verdict.HTTP.value)
        self._listener.runtime.timers.cancel(self)
        self._listener.closed(self)
        if self._dialling is not None and self._app is None:
            self._dialling.cancel()
        if self._app is not None:
            self._app.transport.abort()
        self._release()
        connection = DownstreamConnection(self._listener, self._peer)
        self.transport.set_protocol(connection)
        connection.connection_made(self.transport)
        if len(self.early) >= 1:
            self.transport.resume_reading()
        connection.data_received(bytes(self.early))

    def drain(self) -> None:
        """A connection without a word yet has nothing in flight; but its first word may be on its way."""
        if not self._decided:
            asyncio.get_running_loop().call_later(_DRAIN_SILENT, self._leave)

    def _leave(self) -> None:
        if not self._decided:
            self._give_up("", "meshlet drains")

    def _record(self, received: int, sent: int, flag: str) -> None:
        self._listener.runtime.timers.cancel(self)
        super()._record(received, sent, flag)
