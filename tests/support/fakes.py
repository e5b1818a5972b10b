"""An event loop, transports and peers without time, sockets or a kernel: what a test does not say does not happen.

`FakeTransport` does what uvloop's transports do, down to what they raise: a protocol that gets along with it does so
on a real connection. A `Peer` is the far end of one: its methods are what a client or an app can do to us, and its
attributes what it can see of us.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

# uvloop's limits of a write buffer: past the first the protocol is paused, at the second resumed.
HIGH_WATER = 65536
LOW_WATER = 16
# What one read brings at most.
_READ = 262144

# No timer is called at exactly its time.
_LATE = 1e-6  # seconds

_ESTABLISHED = 1
_CLOSE = 7


class FakeLoop:
    """An event loop whose time stands still until `advance`.

    One turn runs the callbacks that are ready, then what the kernel has reported, as uvloop does: so callbacks that
    an event schedules run after all events that came together with it.
    """

    def __init__(self) -> None:
        self._self: Any = self  # asyncio's annotations want every method of a loop; it uses the few that are here
        self._now = 1000.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._events: deque[Callable[[], None]] = deque()
        self._readers: dict[int, Callable[[], object]] = {}
        self.is_readable: Callable[[int], bool] = lambda _: False
        #: what there is at an address: a connection, or what goes wrong
        self.dial: Callable[[Callable[[], asyncio.BaseProtocol], str], Coroutine[Any, Any, Any]]
        #: the same in two steps: it can be reached, and then is given a protocol
        self.reach: Callable[[str], Coroutine[Any, Any, None]]
        self.adopt: Callable[[Callable[[], asyncio.BaseProtocol], str], Coroutine[Any, Any, Any]]
        self._reached: dict[Any, str] = {}
        #: what went wrong in a callback; a test must leave it empty
        self.failures: list[dict[str, Any]] = []

    # --- for tests ---

    def run(self) -> None:
        """Run until nothing is left to do at this time."""
        for _ in range(100_000):
            if not self._ready and not self._events:
                return
            self.turn()
        raise AssertionError("the loop does not come to rest")

    def turn(self) -> None:
        """Run what is ready, then what the kernel has reported."""
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
        for _ in range(len(self._events)):
            self._events.popleft()()

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self._now + seconds
        self.run()
        for _ in range(1_000_000):
            if not self._timers or self._timers[0][0] > end:
                self._now = end
                return
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when) + _LATE
            if not timer.cancelled():
                timer._run()
                self.run()
        raise AssertionError("timers set each other without end")

    def report(self, event: Callable[[], None]) -> None:
        """Have the kernel report something."""
        self._events.append(event)

    def readable(self, descriptor: int) -> None:
        """Have the kernel report that a descriptor can be read, for as long as it can and anybody asks for it."""

        def report() -> None:
            if descriptor in self._readers and self.is_readable(descriptor):
                self._readers[descriptor]()
                self.report(report)

        self.report(report)

    # --- what asyncio and our code ask of an event loop ---

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self._self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio tells it to loops that count."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self._self, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        self._readers[fd] = lambda: callback(*args)
        self.readable(fd)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    async def create_connection(
        self, factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **_: Any
    ) -> Any:
        if sock is None:
            return await self.dial(factory, f"{host}:{port}")
        sock.close()  # a transport's own from now on
        return await self.adopt(factory, self._reached.pop(sock))

    async def sock_connect(self, sock: Any, address: tuple[str, int]) -> None:
        host, port = address
        await self.reach(f"{host}:{port}")
        self._reached[sock] = f"{host}:{port}"

    async def create_unix_connection(self, factory: Any, path: Any = None, **_: Any) -> Any:
        return await self.dial(factory, f"unix:{path}")

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **_: Any) -> Any:
        peer: Peer = sock.peer
        return await peer.connect(protocol_factory)


class FakeSocket:
    """What our code asks of the socket under a transport."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._descriptor = -1

    def setblocking(self, flag: bool) -> None:
        """There is nothing to block on."""

    def close(self) -> None:
        self.peer.shed = True

    def setsockopt(self, level: int, option: int, value: object) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self.peer.lingers = False

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:
        if (level, option) != (socket.IPPROTO_TCP, socket.TCP_INFO):
            raise OSError(errno.ENOPROTOOPT, "not faked")
        return bytes([_CLOSE if self.peer.rst else _ESTABLISHED])

    def fileno(self) -> int:
        """A descriptor that can be polled: it is readable while the peer's bytes, or its end, wait to be read."""
        if self._descriptor < 0:
            self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        self.update()
        return self._descriptor

    def update(self) -> None:
        if self._descriptor >= 0:
            os.eventfd_write(self._descriptor, 1)
            if not self.peer.unread:
                os.eventfd_read(self._descriptor)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FakeTransport(asyncio.Transport):
    """Our side of a connection, as uvloop behaves (see its basetransport.pyx and stream.pyx)."""

    def __init__(self, loop: FakeLoop, peer: Peer) -> None:
        super().__init__()
        self._loop = loop
        self._peer = peer
        self._protocol: Any = None
        self._reading = False
        self._closing = False
        self._losing = False  # connection_lost is on its way
        self._closed = False
        self._eof = False
        self._paused = False
        self.buffer = bytearray()
        #: times that each was called, with effect
        self.pauses = 0
        self.resumes = 0

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self._start_reading()

    # --- the reading side ---

    def _start_reading(self) -> None:
        if not self._closing and not self._reading:
            self._reading = True
            self._loop.report(self.deliver)

    def deliver(self) -> None:
        """The kernel says that there is something to read."""
        unread = self._peer.unread
        while self._reading and unread:
            item = unread[0]
            try:
                if item == b"":  # the end stays to be found again
                    self._reading = False
                    if not self._protocol.eof_received():
                        self.close()
                elif isinstance(item, OSError):
                    self._force_close(item)
                else:
                    unread[0] = item[_READ:]
                    if not unread[0]:
                        unread.popleft()
                    self._protocol.data_received(item[:_READ])
            except Exception as error:  # noqa: BLE001 - as uvloop does
                self._loop.call_exception_handler({"message": "in a protocol", "exception": error})
                self._force_close(error)
        self._peer.sock.update()

    def pause_reading(self) -> None:
        if self._closing or not self._reading:
            return
        self.pauses += 1
        self._reading = False

    def resume_reading(self) -> None:
        if self._reading or self._closing:
            return
        self.resumes += 1
        self._start_reading()

    def is_reading(self) -> bool:
        return self._reading

    # --- the writing side ---

    def write(self, data: Any) -> None:
        self._ensure_alive()
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._losing:
            return
        if self._peer.rst:
            self._force_close(BrokenPipeError(errno.EPIPE, "Broken pipe"))
            return
        self.buffer += data
        self.flush()
        if len(self.buffer) > HIGH_WATER and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def flush(self) -> None:
        """Give the peer what it takes."""
        if self._closed:
            return
        taken = self._peer.take(bytes(self.buffer))
        del self.buffer[:taken]
        if self._paused and len(self.buffer) <= LOW_WATER:
            self._paused = False
            self._protocol.resume_writing()
        if not self.buffer and self._closing and not self._losing:
            self._lose(None)
        if not self.buffer and self._eof:
            self._peer.ended = True

    def write_eof(self) -> None:
        self._ensure_alive()
        self._eof = True
        self.flush()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    # --- the end ---

    def _ensure_alive(self) -> None:
        if self._closed:
            raise RuntimeError("unable to perform operation; the handler is closed")

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if not self.buffer:
            self._lose(None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, error: Exception | None) -> None:
        if self._losing or self._closed:
            return
        self._closing = True
        self._reading = False
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        self._losing = True
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        if not self._closed:
            try:
                if self._protocol is not None:
                    self._protocol.connection_lost(error)
            finally:
                self._protocol = None
                self.vanish()

    def vanish(self) -> None:
        """Close the socket. A kernel that has unread bytes then answers with a reset."""
        self._closing = self._closed = True
        self._reading = False
        unread = any(isinstance(item, bytes) and item for item in self._peer.unread)
        self._peer.on_close(reset=unread or not self._peer.lingers)
        self._peer.sock.release()

    def is_closing(self) -> bool:
        return self._closing

    @property
    def closed(self) -> bool:
        return self._closed

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self._peer.sock, "peername": self._peer.name}.get(name, default)


class Peer:
    """The far end of one of our connections."""

    def __init__(self, loop: FakeLoop, name: tuple[str, int] | str) -> None:
        self.loop = loop
        self.name = name
        self.sock = FakeSocket(self)
        self.transport = FakeTransport(loop, self)
        # what it has sent and we have not read: bytes, b"" for its end, an error for a reset
        self.unread: deque[bytes | OSError] = deque()
        self.rst = False  # its kernel has told ours that nobody is there
        self.gone = False  # it has closed its socket: whatever it gets is answered with a reset
        self.lingers = True
        # what it sees
        self.received = b""
        self.ended = False  # we send no more
        self.closed = False
        self.reset = False
        self.shed = False  # we closed it without a word
        self._window: int | None = None  # bytes that it still takes; None: all

    async def connect(self, factory: Callable[[], asyncio.BaseProtocol]) -> tuple[FakeTransport, asyncio.BaseProtocol]:
        """What an event loop does with a new connection."""
        protocol = factory()
        made = self.loop.create_future()

        def begin() -> None:
            if not made.cancelled():  # uvloop tells no protocol of a connection that was given up
                self.transport.begin(protocol)
                made.set_result(None)

        self.loop.call_soon(begin)
        try:
            await made
        except BaseException:
            self.transport.vanish()
            raise
        return self.transport, protocol

    # --- what it does ---

    def put(self, data: bytes) -> None:
        """Send bytes, or its end where there are none."""
        self._say(data)

    def end(self) -> None:
        """Send no more, but read on."""
        self._say(b"")

    def close(self) -> None:
        """Close the socket: its end of stream comes first, and a reset once we send anything."""
        self.gone = True
        self._say(b"")

    def kill(self) -> None:
        """Reset the connection."""
        self.gone = self.rst = True
        self.unread = deque(item for item in self.unread if item == b"")
        self._say(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def _say(self, item: bytes | OSError) -> None:
        if self.closed:
            return
        if item == b"" and b"" in self.unread:
            return
        if isinstance(item, OSError) and b"" in self.unread:
            self.unread.remove(b"")  # a reset is what a read would find now
        self.unread.append(item)
        self.sock.update()
        self.loop.report(self.transport.deliver)

    def stall(self) -> None:
        """Read no more."""
        self._window = 0

    def read(self, count: int | None = None) -> None:
        """Read so many bytes, or all from now on."""
        self._window = None if count is None else (self._window or 0) + count
        if not self.closed:
            self.loop.report(self.transport.flush)

    # --- what our side does to it ---

    def take(self, data: bytes) -> int:
        if self.gone:
            if data and not self.rst:
                self.kill()
            return len(data)
        if self._window is not None:
            data = data[: self._window]
            self._window -= len(data)
        self.received += data
        return len(data)

    def on_close(self, *, reset: bool) -> None:
        self.closed = True
        self.reset = reset and not self.rst
        self.ended = True
