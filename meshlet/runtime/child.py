"""A worker process as its supervisor sees it: started, asked, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from meshlet.runtime.channel import Channel
from meshlet.runtime.messages import NONE, Answer, Request, decode, encode
from meshlet.runtime.totals import lasting, total
from meshlet.telemetry.log import get_level
from meshlet.telemetry.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from meshlet.runtime.messages import Method

logger = logging.getLogger("meshlet.runtime")

_START = 60.0  # seconds; many workers that start at once on a tenth of a core need some
_ANSWER = 2.0  # seconds
_CLOSE = 2.0  # seconds; the access log is given one to write its last lines
_EXIT = 1.0  # seconds, from a closed channel to the end of the process
# More than that without an answer, and a worker is asked nothing more: what waits for it stays small.
_MAX_WAITING = 16


class WorkerError(OSError):
    """A worker has not done what it was told."""


class Refused(WorkerError):
    """It has said why."""


class NoAnswer(WorkerError):
    """It is gone or hangs; if it still runs, nobody knows what it has done."""


class Child:
    """One worker process, from its start to its end; the one that is started after it is another `Child`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._known: dict[Method, Raw] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self.silent = False  # it has left a call unanswered, and has not answered any since

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self._process.pid if self._process is not None else '-'})"

    # --- start ---

    async def start(self, log_format: str) -> None:
        """Start the process and wait until it answers. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await _spawn(theirs.fileno(), str(self.number), get_level(), log_format)
            except BaseException:
                ours.close()
                raise
        self._channel = Channel(ours, self._on_answer, self._on_close)
        # The level as it is by now; and whoever answers has imported everything.
        await self.call("set_log_level", get_level(), within=_START)

    # --- calls ---

    async def call(
        self, method: Method, argument: object = None, *, fds: Sequence[int] = (), within: float | None = _ANSWER
    ) -> Raw:
        """Call a method of its data plane and return the encoded result. Raises Refused or NoAnswer."""
        if self._channel is None or len(self._waiting) >= _MAX_WAITING:
            raise NoAnswer(f"{self} does not answer")
        number = next(self._ids)
        # What times out stays in there until it is answered after all: it is still in the worker's queue.
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        encoded = msgspec.Raw(encode(argument)) if argument is not None else NONE
        try:
            async with asyncio.timeout(within):
                await self._channel.send(encode(Request(number, method, encoded)), fds)
                answer = await future
        except TimeoutError as error:
            self._note_silence()
            raise NoAnswer(f"{self} has not answered for {within:g} s") from error
        except OSError as error:
            raise NoAnswer(f"{self} is gone") from error
        if answer.error is not None:
            raise Refused(f"worker {self.number}: {answer.error}")
        return answer.result

    async def refresh(self, method: Method) -> None:
        """Ask for what `known` returns; where no answer comes, that stays what it was."""
        if self.silent:
            return  # whoever asks for figures waits for a worker that hangs once, not each time
        with contextlib.suppress(WorkerError):
            self._known[method] = await self.call(method)

    def known(self, method: Method) -> Raw | None:
        """Return the last answer to a question without argument; None before the first."""
        return self._known.get(method)

    def _on_answer(self, payload: bytes, fds: list[int]) -> None:
        answer = decode(payload, Answer)
        future = self._waiting.pop(answer.id)
        if not future.done():
            future.set_result(answer)
        if self.silent:
            self.silent = False
            logger.info("%s answers again", self)

    def _note_silence(self) -> None:
        if not self.silent:
            self.silent = True
            logger.warning("%s does not answer; its last figures are used", self)

    def _on_close(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the channel is closed"))
                future.exception()  # nobody may be left to look at it
        # A worker ends by itself when its channel closes; one that hangs does not.
        asyncio.get_running_loop().call_later(_EXIT, self.kill)

    # --- the end ---

    async def ended(self) -> str:
        """Wait for the process to end and return how it did."""
        assert self._process is not None
        status = await self._process.wait()
        return f"was ended by {_name_of(-status)}" if status < 0 else f"exited with status {status}"

    async def close(self) -> int:
        """End it as `Plane.close` does; return how many connections were left."""
        left = 0
        try:
            left = decode(await self.call("close", within=_CLOSE), int)
        except WorkerError:
            self.kill()
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            await self._process.wait()
        return left

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


class Place:
    """One of the N places for a worker: the process in it, if one runs, and what those before it have counted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.restarts = 0
        self._past: list[Family] = []

    def families(self) -> list[Family]:
        """What the processes of this place have counted and have.

        Sums are made by place, so that one that dies moves from the right to the left of the same addition: in
        another order the sum could come out a rounding error smaller, which Prometheus takes for a counter's restart.
        """
        known = self.child.known("families") if self.child is not None else None
        return total([self._past, decode(known, list[Family])]) if known is not None else self._past

    def clear(self) -> None:
        """Note that the process has ended."""
        self._past = lasting(self.families())
        self.child = None


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


async def _spawn(fd: int, *arguments: str) -> asyncio.subprocess.Process:
    # It imports from where we do: with `-m` alone, a module in the working directory would come before everything.
    paths = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "meshlet.runtime.worker", str(fd), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(fd,),
        env=os.environ | paths,
    )
