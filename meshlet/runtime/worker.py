"""A worker process: a data plane that does what the supervisor says, until the channel to it closes.

Started as `python -m meshlet.runtime.worker FD NUMBER LOG-LEVEL LOG-FORMAT` by `child`, which holds the other end of
the socket FD. It imports no command line, no YAML and no admin port: a worker's memory counts N times.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvloop
from msgspec import Raw

from meshlet.config.schema import Config
from meshlet.runtime.channel import Channel
from meshlet.runtime.memory import settle
from meshlet.runtime.messages import NONE, Answer, Request, decode, encode
from meshlet.runtime.plane import DataPlane
from meshlet.runtime.sockets import BindError
from meshlet.telemetry.log import configure
from meshlet.telemetry.tap import TapRead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshlet.config.units import Address

logger = logging.getLogger("meshlet.runtime")

# Ctrl-C and a closing terminal reach the whole process group; the supervisor conducts what follows from that.
_FOR_THE_SUPERVISOR = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

_ARGUMENTS: dict[str, type] = {
    "unreachable": tuple[str, ...],
    "explain": str,
    "recent": int,
    "tap": TapRead,
    "set_log_level": str,
}


class Worker:
    """Answers requests from the channel."""

    def __init__(self, sock: socket.socket) -> None:
        self._plane = DataPlane(self._socket, shared_log=True)
        self._sockets: dict[Address, socket.socket] = {}  # for the config that is being applied
        self._settled = False
        self._ended = False
        self._gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._channel = Channel(sock, self._on_request, self._gone.set)

    async def run(self) -> None:
        """Return when the supervisor has let go of the channel, or is gone itself."""
        await self._gone.wait()
        if not self._ended:
            await self._plane.close()

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
            answer = encode(Answer(request.id, NONE, str(error)))
        except Exception as error:
            logger.exception("%s failed", request.method)
            answer = encode(Answer(request.id, NONE, f"{request.method} failed: {error!r}"))
        try:
            await self._channel.send(answer)
        except OSError:
            self._gone.set()

    async def _do(self, request: Request, fds: list[int]) -> object:
        if request.method == "apply":
            await self._apply(decode(request.argument, Config), fds)
            return None
        if request.method == "close":
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
        if not self._settled:
            self._settled = True
            settle()

    def _socket(self, address: Address) -> socket.socket:
        try:
            return self._sockets.pop(address)
        except KeyError as error:
            raise BindError(f"cannot listen on {address}: {os.strerror(errno.EMFILE).lower()}") from error


def main(fd: str, number: str, level: str, log_format: str) -> None:
    """Run one worker."""
    for ignored in _FOR_THE_SUPERVISOR:
        signal.signal(ignored, signal.SIG_IGN)
    _name_in_log(int(number))
    configure(level, "json" if log_format == "json" else "text")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(socket.socket(fileno=int(fd))))


async def _run(sock: socket.socket) -> None:
    await Worker(sock).run()


def _name_in_log(number: int) -> None:
    make = logging.getLogRecordFactory()

    def named(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.__dict__["worker"] = number
        return record

    logging.setLogRecordFactory(named)


if __name__ == "__main__":
    main(*sys.argv[1:])
