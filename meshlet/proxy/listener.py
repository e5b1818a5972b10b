"""A listening socket and the connections it has accepted.

The accept loop is our own: asyncio's would close a client's connection when descriptors run out,
and it knows no bound on connections.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from meshlet.proxy.detect import DetectingConnection
from meshlet.proxy.downstream import DownstreamConnection
from meshlet.proxy.refusal import Refusal
from meshlet.proxy.tcp import TcpConnection

if TYPE_CHECKING:
    from meshlet.errors import ProxyError
    from meshlet.proxy.settings import ListenerSettings, Runtime

logger = logging.getLogger("meshlet.listener")

# Connections accepted before other events get their turn.
_BATCH = 32
# The most that can wait to be accepted; the kernel's own bound is lower in most places.
_BACKLOG = 4096
# Out of descriptors or memory: the next try; until then clients wait in the backlog instead of being turned away.
_RETRY = 0.25  # seconds
# Descriptors come and go one at a time while they are short; it is over when there were enough for so long.
_RECOVERED = 1.0  # seconds
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Connection(Protocol):
    """What a listener holds: a client's connection of any kind."""

    def drain(self) -> None:
        """Close as soon as nothing is in flight."""
        ...

    def abort(self) -> None:
        """Close now."""
        ...


class Listener:
    """Accepts connections on one socket. `settings` is replaced whole by a reload."""

    _protocols: ClassVar[dict[str, Callable[[Listener, object], asyncio.BaseProtocol]]] = {
        "auto": DetectingConnection,
        "http": DownstreamConnection,
        "tcp": TcpConnection,
    }

    def __init__(self, sock: socket.socket, settings: ListenerSettings, runtime: Runtime) -> None:
        self.settings = settings
        self.runtime = runtime
        self.draining = False  # tell clients to close
        self._socket = sock
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._recovery: asyncio.TimerHandle | None = None
        self._connections: set[Connection] = set()
        #: accepted, but its transport is still being made; a task that nobody holds could be collected
        self._opening: dict[object, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Listener {self.settings.name} {self.address} connections={len(self._connections)}>"

    @property
    def address(self) -> str:
        """Where it listens, with the port that the kernel chose."""
        name = self._socket.getsockname() if self._socket.fileno() >= 0 else "closed"
        if isinstance(name, str):
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    @property
    def connections(self) -> int:
        """How many are open, or about to be."""
        return len(self._connections) + len(self._opening)

    # --- accepting ---

    def start(self) -> None:
        """Begin to accept."""
        self._socket.setblocking(False)
        self._accepting = True
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept_waiting, _BATCH)

    def stop(self) -> None:
        """Accept no more, and free the address; who is waiting to be accepted is served yet."""
        if self._accepting:
            # Closing the socket would reset them, though they could not know that we are leaving.
            self._accept_waiting(_BACKLOG)
        for timer in (self._retry, self._recovery):
            if timer is not None:
                timer.cancel()
        if self._accepting:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _accept_waiting(self, most: int) -> None:
        for _ in range(most):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Accept one connection, or say that none waits or can be taken."""
        stats = self.settings.stats
        try:
            sock, peer = self._socket.accept()
        except (BlockingIOError, InterruptedError):
            return False  # another worker was faster
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._pause(error)
                return False
            # The client has gone again, or the network said something about it (accept(2)).
            stats.accept_errors_total += 1
            return True
        if self._exhausted and self._recovery is None:
            self._recovery = asyncio.get_running_loop().call_later(_RECOVERED, self._recovered)
        if self.connections >= self.settings.limits.max_connections:
            stats.shed_total += 1
            sock.close()
            return True
        stats.accepted_total += 1
        self._open(sock, peer)
        return True

    def _pause(self, error: OSError) -> None:
        self.settings.stats.accept_errors_total += 1
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._accepting = False
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        if not self._exhausted:
            self._exhausted = True
            logger.error(
                "listener %s: cannot accept: %s; clients wait until descriptors or memory are free again "
                "(raise the limit of open files, or limits.max_connections is too high)",
                self.settings.name,
                (error.strerror or str(error)).lower(),
            )
        self._retry = loop.call_later(_RETRY, self.start)

    def _recovered(self) -> None:
        self._recovery = None
        self._exhausted = False
        logger.info("listener %s: accepting again", self.settings.name)

    def _open(self, sock: socket.socket, peer: object) -> None:
        protocol = self._protocols[self.settings.protocol](self, peer)
        self._opening[protocol] = asyncio.get_running_loop().create_task(self._set_up(sock, protocol))

    async def _set_up(self, sock: socket.socket, protocol: asyncio.BaseProtocol) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)
        except OSError:
            # The client was gone before its connection was set up.
            self.settings.stats.accept_errors_total += 1
            sock.close()
        finally:
            self._opening.pop(protocol, None)

    # --- what connections tell ---

    def opened(self, connection: Connection) -> None:
        """Remember a connection."""
        self._connections.add(connection)
        self._opening.pop(connection, None)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def refused(self, error: ProxyError, request_id: bytes, addresses: tuple[str, str, str]) -> None:
        """Count and record what could not even be read as a request; see `Refusal`."""
        settings = self.settings
        settings.unrouted.record(error.status, error.flag, 0.0, 0, 0)
        logger.debug("listener %s: refused what %s sent: %s", settings.name, addresses[0], error)
        record = Refusal(error, settings, addresses, request_id, self.runtime.wall_clock())
        if settings.explanations is not None:
            settings.explanations.add(record)
        for log in settings.logs:
            log.record(record)

    def detected(self, what: str) -> None:
        """Count what an `auto` connection turned out to be."""
        counts = self.settings.stats.detected
        counts[what] = counts.get(what, 0) + 1

    # --- the end ---

    def drain(self) -> None:
        """Close idle connections now and the others when their request has ended."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.drain()

    def abort(self) -> None:
        """Close all connections, whatever they are doing."""
        for connection in tuple(self._connections):
            connection.abort()
