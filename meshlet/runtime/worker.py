"""A worker process: a data plane that does what the supervisor says, until the channel to it closes.

Started as `python -m meshlet.runtime.worker FD NUMBER LOG-LEVEL LOG-FORMAT` by `child`, which holds the other end of
the socket FD. It imports no command line, no YAML and no admin port: a worker's memory counts N times.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvloop
from msgspec import Raw

from meshlet.config.schema import Config, Shutdown
from meshlet.runtime.channel import Channel
from meshlet.runtime.heartbeat import BEAT
from meshlet.runtime.memory import settle
from meshlet.runtime.messages import NONE, Answer, Request, decode, encode
from meshlet.runtime.plane import DataPlane
from meshlet.runtime.sockets import BindError
from meshlet.telemetry.log import configure
from meshlet.telemetry.tap import TapRead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshlet.config.units import Address

logger = logging.getLogger("meshlet.runtime")

# Ctrl-C and a closing terminal reach the whole process group; the supervisor conducts what follows from that.
_FOR_THE_SUPERVISOR = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LAST_LINES = 2.0  # seconds; the access log is given one of them

_ARGUMENTS: dict[str, type] = {
    "unreachable": tuple[str, ...],
    "explain": str,
    "recent": int,
    "tap": TapRead,
    "set_log_level": str,
}


class Worker:
    """Answers requests from the channel.

    `on_orphaned` is called when the supervisor is gone, with the seconds that the drain may take then.
    """

    def __init__(self, sock: socket.socket, on_orphaned: Callable[[float], None] = lambda _: None) -> None:
        self._on_orphaned = on_orphaned
        self._plane = DataPlane(self._socket, shared_log=True)
        self._sockets: dict[Address, socket.socket] = {}  # for the config that is being applied
        self._applying = asyncio.Lock()
        self._settled = False
        self._ended = False
        #: seconds that are left to requests when the supervisor is gone
        self.drain_timeout = float(Shutdown().timeout)
        self._gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._channel = Channel(sock, self._on_request, self._gone.set)

    async def run(self) -> None:
        """Return when the supervisor has let go of the channel, or is gone itself and what it has left is done."""
        beating = asyncio.get_running_loop().create_task(self._beat())
        await self._gone.wait()
        beating.cancel()
        if not self._ended:
            await self._drain()
        await self._plane.close()

    async def _beat(self) -> None:
        """Tell the supervisor, as long as this loop runs, that it does."""
        with contextlib.suppress(OSError):
            while True:
                await self._channel.send(b"")
                await asyncio.sleep(BEAT)

    async def _drain(self) -> None:
        """Finish what is under way. Nobody conducts that any more, and the next supervisor wants the ports at once."""
        self._on_orphaned(self.drain_timeout)
        await self._plane.announce_drain()
        await self._plane.stop_accepting()
        logger.warning("the supervisor is gone: draining, for %g s at most", self.drain_timeout)
        try:
            async with asyncio.timeout(self.drain_timeout):
                await self._plane.wait_idle()
        except TimeoutError:
            logger.warning("the time to drain is up")

    def _on_request(self, payload: bytes, fds: list[int]) -> None:
        # A task each: to wait until all is idle must not keep the figures from being asked for.
        task = asyncio.get_running_loop().create_task(self._answer(decode(payload, Request), fds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request, fds: list[int]) -> None:
        try:
            result = await self._do(request, fds)
            answer = encode(Answer(request.id, Raw(encode(result))))
        except OSError as error:
            answer = encode(Answer(request.id, NONE, str(error), error.errno))
        except Exception as error:
            logger.exception("%s failed", request.method)
            answer = encode(Answer(request.id, NONE, f"{request.method} failed: {error!r}"))
        try:
            await self._channel.send(answer)
        except OSError:
            self._gone.set()

    async def _do(self, request: Request, fds: list[int]) -> object:
        if request.method == "apply":
            async with self._applying:  # the one before may still wait for host names
                await self._apply(decode(request.argument, Config), fds)
            return None
        if request.method == "abort":
            self._ended = True
        kind = _ARGUMENTS.get(request.method)
        arguments: Sequence[Any] = (decode(request.argument, kind),) if kind is not None else ()
        return await getattr(self._plane, request.method)(*arguments)

    async def _apply(self, config: Config, fds: list[int]) -> None:
        given = [socket.socket(fileno=fd) for fd in fds]
        self._sockets = dict(zip((listener.address for listener in config.listeners), given, strict=False))
        try:
            await self._plane.apply(config)
        finally:
            # They come for all listeners, also for those that have theirs already.
            for sock in self._sockets.values():
                sock.close()
        self.drain_timeout = float(config.shutdown.timeout or Shutdown().timeout)
        if not self._settled:
            self._settled = True
            settle()

    def _socket(self, address: Address) -> socket.socket:
        try:
            return self._sockets.pop(address)
        except KeyError as error:
            raise BindError(f"cannot listen on {address}: {os.strerror(errno.EMFILE).lower()}", errno.EMFILE) from error


def main(fd: str, number: str, level: str, log_format: str) -> None:
    """Run one worker."""
    for ignored in _FOR_THE_SUPERVISOR:
        signal.signal(ignored, signal.SIG_IGN)
    _name_in_log(int(number))
    configure(level, "json" if log_format == "json" else "text", shared=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(socket.socket(fileno=int(fd))))


async def _run(sock: socket.socket) -> None:
    worker = Worker(sock, _orphaned)
    _watch_supervisor(worker)
    await worker.run()


def _orphaned(drain_timeout: float) -> None:
    """Have the kernel end this process once its drain should be over, even if Python gets nowhere by then."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # nobody else will end it now
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if not signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.setitimer(signal.ITIMER_REAL, drain_timeout + _LAST_LINES)


def _watch_supervisor(worker: Worker) -> None:
    """Have a loop that does not get to read its channel hear of the supervisor's end too.

    SIGCONT makes a process that was stopped go on.
    """
    supervisor = os.getppid()

    def on_continue(*_: object) -> None:
        if os.getppid() != supervisor:
            _orphaned(worker.drain_timeout)

    signal.signal(signal.SIGCONT, on_continue)
    with contextlib.suppress(ImportError, OSError):  # a Python may be built without ctypes
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


def _name_in_log(number: int) -> None:
    make = logging.getLogRecordFactory()

    def named(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.__dict__["worker"] = number
        return record

    logging.setLogRecordFactory(named)


if __name__ == "__main__":
    main(*sys.argv[1:])
