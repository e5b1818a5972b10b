"""Listeners of protocol `auto`: what is this connection? Its first bytes say, and are passed on untouched.

What is not HTTP goes to the cluster that the listener has for it (`ListenerSettings.tcp_cluster`). Where a listener has
rules and names none, nothing may go past them, so it is refused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshlet.errors import BadRequest
from meshlet.http.opening import Opening, Verdict
from meshlet.proxy.downstream import DownstreamConnection
from meshlet.proxy.tcp import EARLY, AppSide, TcpConnection
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.errors import ProxyError
    from meshlet.proxy.listener import Listener
    from meshlet.proxy.settings import ListenerSettings
    from meshlet.upstream.greeting import Greeted, Greeting

# While draining, a connection without a word yet gets one more moment to say it.
_DRAIN_SILENT = 1.0  # seconds
# Reading stops beyond `EARLY`: by then there must be a verdict, whatever the limit of a target is.
_LONGEST_TARGET = EARLY // 2


class DetectingConnection(TcpConnection):
    """Waits for the client's first bytes. `wake` belongs to `Timers`.

    A client that stays silent may be waiting for the app to speak first, as with SMTP or MySQL. The app is dialled for
    it where the app is known to do so (see `Greeting`); then whoever speaks first decides.
    """

    def __init__(self, listener: Listener, peer: object) -> None:
        super().__init__(listener, peer)
        self.wake = NEVER
        self._opening = Opening(min(self._settings.limits.max_target_bytes, _LONGEST_TARGET))
        self._decided = False
        self._deadline = NEVER  # when something is to be done about it
        self._patience = NEVER  # when a silent client has to leave; NEVER while it is not known to be one
        self._greeting: Greeting | None = None  # where it waits

    # --- the client ---

    def _begin(self) -> None:
        self._wake_at(self._listener.runtime.clock() + self._settings.limits.detect_timeout)

    def data_received(self, data: bytes) -> None:
        first = not self.early
        super().data_received(data)
        if self._decided:
            return
        verdict = self._opening.look(self.early)
        if verdict is not Verdict.UNKNOWN:
            self._settle(verdict)
        elif first:  # further bytes do not prolong the time
            self._begin()

    def eof_received(self) -> bool:
        super().eof_received()
        if self._decided:
            return True
        if self.early:
            return self._settle_undecided()
        if self._dialling is not None or self._take_greeted():
            self._relay_it(Verdict.TCP)  # an app may answer to the end alone
            return True
        self._leave("", "")  # it came and went: a probe, most likely
        return False

    def on_timer(self, now: float) -> float:
        """The client was silent, or said too little, for long enough."""
        if now < self._deadline:
            return self._deadline
        if self.early:
            self._settle_undecided()
        elif self._listener.draining:
            self._leave("", "meshlet drains")
        elif self._dialling is not None:
            self._leave("SI", "neither the client nor the app has said anything")
        elif self._patience < NEVER:
            cluster = self._refresh().tcp_cluster
            # Clients open connections in advance; only where the app might have spoken first does it tell of a fault.
            flag = "" if cluster is None or cluster.speaks_http else "SI"
            self._leave(flag, "the client has said nothing")
        else:
            self._patience = self._deadline = now + self._settings.limits.head_timeout
            self._wait()
            return self._deadline
        return NEVER

    def _wake_at(self, when: float) -> None:
        self._deadline = when
        self._listener.runtime.timers.schedule(self, when)

    # --- a silent client ---

    def _wait(self) -> None:
        cluster = self._refresh().tcp_cluster
        if cluster is not None:
            self._greeting = cluster.greeting
            cluster.greeting.wait(self)

    def on_greeting(self, greeted: Greeted | None) -> None:
        """The app speaks first, and perhaps has done so already; see `SilentClient`."""
        self._refresh()
        if self._greeting is None:  # a reload has brought rules, or another app
            if greeted is not None:
                greeted.give_back()
        elif greeted is not None:
            self._adopt(greeted)
            self._relay_it(Verdict.TCP)
        else:
            self._deadline = self._listener.runtime.clock() + self._settings.limits.tcp_idle_timeout
            self._dial()

    def _take_greeted(self) -> bool:
        """Take the connection over that was made because of this client's silence, if there is one."""
        greeted = self._greeting.take(self) if self._greeting is not None else None
        if greeted is not None:
            self._adopt(greeted)
        return greeted is not None

    def _adopt(self, greeted: Greeted) -> None:
        self._app = app = AppSide(self)
        app.connection_made(greeted.transport)
        app.early += greeted.early
        greeted.transport.set_protocol(app)
        self._endpoint = greeted.endpoint
        self.attempts = 1
        greeted.endpoint.requests_total += 1
        self._connected_to(greeted.endpoint, self._listener.runtime.clock())

    def on_app_word(self, app: AppSide) -> None:
        if not self._decided:
            if self._greeting is not None:
                self._greeting.greeted()
            self._relay_it(Verdict.TCP)

    def on_app_end(self, app: AppSide) -> None:
        if not self._decided:
            app.transport.abort()  # `on_app_lost` follows

    def on_app_lost(self) -> None:
        if self._decided or self._over:
            super().on_app_lost()
        elif self._dialling is not None:
            self._without_app()

    def _unreachable(self, error: ProxyError) -> None:
        if self._decided:
            super()._unreachable(error)
        else:
            self._without_app()

    def _without_app(self) -> None:
        """The client knows nothing of the app that was dialled for it, and may yet speak HTTP: it waits on."""
        self._hang_up()
        self._release()
        self._dialling = self._app = self._endpoint = self._connected = None
        self.attempts = 0
        self._failures.clear()
        if self._greeting is not None:
            self._greeting.failed()
            if not self.early:
                self._wake_at(self._patience)
                self._greeting.wait(self)

    # --- the decision ---

    def _settle(self, verdict: Verdict) -> None:
        cluster = self._refresh().tcp_cluster
        if verdict is Verdict.HTTP or verdict is Verdict.BROKEN:
            self._become_http()
        elif verdict is Verdict.SUSPECT and (cluster is None or cluster.speaks_http):
            self._become_http().refuse(BadRequest("the first line is not a request line of HTTP/1"))
        elif cluster is None:
            self._refuse(verdict)
        else:
            self._relay_it(Verdict.TCP if verdict is Verdict.SUSPECT else verdict)

    def _settle_undecided(self) -> bool:
        """The client has said something, but not enough, and will not or may not say more in time.

        This may be the beginning of a request line. Were it relayed past rules, a client could carry any request past
        them by sending its first bytes slowly. Return whether the transport stays open after the client's end.
        """
        cluster = self._refresh().tcp_cluster
        if cluster is not None and not self._opening.method and not cluster.speaks_http:
            self._relay_it(Verdict.TCP)
            return True
        connection = self._become_http()
        if not self.ended:
            return True
        if not self._opening.method:
            connection.refuse(BadRequest("the connection ended within what is not HTTP/1"))
        return connection.eof_received()

    def _refresh(self) -> ListenerSettings:
        """Return the listener's settings of now, unless the app was dialled by the ones before: rules may be new."""
        if self._dialling is None:
            self._settings = settings = self._listener.settings
            cluster = settings.tcp_cluster
            if self._greeting is not None and (cluster is None or cluster.greeting is not self._greeting):
                self._greeting.leave(self)
                self._greeting = None
        return self._settings

    def _relay_it(self, verdict: Verdict) -> None:
        if self._dialling is None and self._app is None:
            self._take_greeted()
        self._decided = True
        self._listener.detected(verdict.value)
        self._stop_waiting()
        self._count()
        if self._app is None:
            self._dial()
        if self._may_join():
            self._join()

    def _may_join(self) -> bool:
        return self._decided and super()._may_join()

    def _refuse(self, verdict: Verdict) -> None:
        """Refuse what the listener has no cluster for."""
        if verdict is Verdict.HTTP2:
            self._become_http(verdict)  # whose reader refuses that version
            return
        error = "and the listener has rules that only HTTP/1 can be held to"
        if verdict is Verdict.TLS:
            # There are no words of ours that a TLS client could read.
            self._hand_over(verdict)
            runtime = self._listener.runtime
            request_id = runtime.new_request_id(runtime.clock())
            addresses = (self.remote, self.remote_host, self.local)
            self._listener.refused(BadRequest(f"this is TLS, {error}", 0), request_id, addresses)
            self.transport.close()
        else:
            self._hand_over(verdict).refuse(BadRequest(f"this is not HTTP/1, {error}"))

    def _become_http(self, verdict: Verdict = Verdict.HTTP) -> DownstreamConnection:
        settings = self._settings
        if settings.tcp_cluster is not None and settings.tcp_cluster_routed:
            # The app may get this request, and perhaps has one worker only.
            settings.tcp_cluster.greeting.give_up()
        connection = self._hand_over(verdict)
        connection.data_received(bytes(self.early))
        return connection

    def _hand_over(self, verdict: Verdict) -> DownstreamConnection:
        """Give the client's connection to one that speaks HTTP."""
        self._decided = True
        self._over = True  # as a TCP connection
        self._listener.detected(verdict.value)
        if self._greeting is not None:
            self._greeting.give_up(self)
        self._stop_waiting()
        self._listener.closed(self)
        self._hang_up()
        self._release()
        connection = DownstreamConnection(self._listener, self._peer)
        self.transport.set_protocol(connection)
        connection.connection_made(self.transport)
        if len(self.early) >= EARLY:
            self.transport.resume_reading()
        return connection

    def _stop_waiting(self) -> None:
        self._listener.runtime.timers.cancel(self)
        if self._greeting is not None:
            self._greeting.leave(self)

    # --- the end ---

    def drain(self) -> None:
        """A connection without a word yet has nothing in flight; but its first word may be on its way."""
        if not self._decided:
            asyncio.get_running_loop().call_later(_DRAIN_SILENT, self._leave_undecided)

    def _leave_undecided(self) -> None:
        if not self._decided:
            self._leave("", "meshlet drains")

    def _leave(self, flag: str, error: str) -> None:
        """Close the connection of a client that was not told anything, so an end of stream tells it no untruth."""
        if not self._over:
            self.error = error
            self._record(len(self.early), 0, flag)
            self._hang_up()
            self.transport.close()

    def _record(self, received: int, sent: int, flag: str) -> None:
        self._stop_waiting()
        super()._record(received, sent, flag)
