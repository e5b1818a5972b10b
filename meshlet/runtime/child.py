"""A worker process as its supervisor sees it: started, asked, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from meshlet.runtime.channel import Channel, close_all
from meshlet.runtime.heartbeat import SILENT, Heart
from meshlet.runtime.left import Left
from meshlet.runtime.messages import NONE, Answer, Request, decode, encode
from meshlet.runtime.totals import lasting, total
from meshlet.telemetry.log import get_level
from meshlet.telemetry.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from msgspec import Raw

    from meshlet.runtime.messages import Method

logger = logging.getLogger("meshlet.runtime")

_START = 60.0  # seconds; many workers that start at once on a tenth of a core need some
_ANSWER = 2.0  # seconds
_CLOSE = 1.0  # seconds for all of its end, the last lines of the access log included
_EXIT = 1.0  # seconds, from a closed channel to the end of the process
# So many calls may wait for an answer at once; what waits for a worker that hangs stays small.
_MAX_ASKED = 16
# What it is told waits in its channel until it comes to itself. One that has left so much undone never will.
_MAX_WAITING = 32


class WorkerError(OSError):
    """A worker has not done what it was told."""


class Refused(WorkerError):
    """It has said why; `errno` is that of the cause, None where it has none."""


class NoAnswer(WorkerError):
    """It is gone or hangs; if it still runs, it may do yet what it was told."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.EAGAIN  # the next one may well answer


class Child:
    """One worker process, from its start to its end; the one that is started after it is another `Child`.

    `clock` gives seconds.
    """

    def __init__(self, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.number = number
        self._known: dict[Method, Raw] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Raw]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._heart = Heart(clock)
        self._silenced: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._gone = False  # its channel is closed
        self._shot = False

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self._process.pid if self._process is not None else '-'})"

    @property
    def silent(self) -> bool:
        """Whether its event loop has given no sign of life for some time."""
        return self._silenced.done()

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
        self._channel = Channel(ours, self._on_frame, self._on_close)
        # The level as it is by now; and whoever answers has imported everything.
        await self.call("set_log_level", get_level(), within=_START)
        self._heart.look()  # it was starting until now

    # --- calls ---

    async def call(self, method: Method, argument: object = None, *, within: float = _ANSWER) -> Raw:
        """Call a method of its data plane and return the encoded result. Raises Refused or NoAnswer.

        One that is silent is not asked, so whoever needs many answers waits for it once, not each time.
        """
        if self.silent or len(self._waiting) >= _MAX_ASKED:
            raise NoAnswer(f"{self} does not answer")
        return await self.result(self.post(method, argument), within)

    async def result(self, answer: asyncio.Future[Raw], within: float, *, patient: bool = False) -> Raw:
        """Wait for what `post` has returned. Raises Refused, or NoAnswer after so many seconds.

        The latter also as soon as it is silent, unless `patient`.
        """
        silenced = self._silenced
        awaited = {answer} if patient else {answer, silenced}
        await asyncio.wait(awaited, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise NoAnswer(
                f"{self} " + ("does not answer" if silenced.done() else f"has not answered for {within:g} s")
            )
        return answer.result()

    def post(self, method: Method, argument: object = None, *, fds: Iterable[int] = ()) -> asyncio.Future[Raw]:
        """Call a method, but leave it to the caller to wait; all calls are carried out in their order.

        What is waited for raises Refused or NoAnswer. Raises NoAnswer also where the worker has left too much undone;
        it is replaced then. Raises OSError where there is no room for copies of the descriptors.
        """
        if self._channel is None:
            raise NoAnswer(f"{self} does not run")
        if len(self._waiting) >= _MAX_WAITING:
            self.kill()
            raise NoAnswer(f"{self} has left too many calls unanswered")
        number = next(self._ids)
        encoded = msgspec.Raw(encode(argument)) if argument is not None else NONE
        # Copies, because the frame may still be under way when the caller has closed its own.
        copies = _copies(fds)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Raw] = loop.create_future()
        self._waiting[number] = answer
        # A task of its own: whoever loses patience must not leave half a frame in the channel.
        task = loop.create_task(self._send(number, encode(Request(number, method, encoded)), copies))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return answer

    async def refresh(self, method: Method) -> None:
        """Ask for what `known` returns; where no answer comes, that stays what it was."""
        with contextlib.suppress(WorkerError):
            self._known[method] = await self.call(method)

    def known(self, method: Method) -> Raw | None:
        """Return the last answer to a question without argument; None before the first."""
        return self._known.get(method)

    async def _send(self, number: int, frame: bytes, fds: list[int]) -> None:
        assert self._channel is not None
        try:
            await self._channel.send(frame, fds)
        except OSError:
            self._fail(number, NoAnswer(f"{self} is gone"))
        except ValueError as error:
            self._fail(number, Refused(f"worker {self.number}: {error}"))
        finally:
            close_all(fds)

    def _fail(self, number: int, error: WorkerError) -> None:
        answer = self._waiting.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_exception(error)
            answer.exception()  # nobody may be left to look at it

    # --- what comes from it ---

    def _on_frame(self, payload: bytes, fds: list[int]) -> None:
        self._heart.beat()
        if self.silent:
            self._silenced = asyncio.get_running_loop().create_future()
            logger.info("%s answers again", self)
        if not payload:
            return
        answer = decode(payload, Answer)
        if answer.error is not None:
            refused = Refused(f"worker {self.number}: {answer.error}")
            refused.errno = answer.errno
            self._fail(answer.id, refused)
            return
        waiting = self._waiting.pop(answer.id)
        if not waiting.done():
            waiting.set_result(answer.result)

    def _on_close(self) -> None:
        self._gone = True
        for number in list(self._waiting):
            self._fail(number, NoAnswer(f"{self} is gone"))
        # A worker ends by itself when its channel closes; one that hangs does not.
        asyncio.get_running_loop().call_later(_EXIT, self.kill)

    def look(self, limit: float) -> bool:
        """Look after it, every `BEAT` seconds: kill it when it has been silent for `limit` seconds, and say so once."""
        silence = self._heart.look()
        if silence >= SILENT and not self.silent:
            self._silenced.set_result(None)
            logger.warning("%s does not answer; its last figures are used", self)
        if silence < limit or self._shot:
            return False
        self._shot = True
        logger.error("%s has not answered for %g s: it is killed", self, limit)
        self.kill()
        return True

    # --- the end ---

    async def ended(self) -> str:
        """Wait for the process to end and return how it did."""
        assert self._process is not None
        status = await self._process.wait()
        return f"was ended by {_name_of(-status)}" if status < 0 else f"exited with status {status}"

    async def close(self) -> Left:
        """End it, within a second."""
        if self._process is None or self._channel is None:
            return Left(0)
        left = None
        try:
            async with asyncio.timeout(_CLOSE):
                left = Left(decode(await self.call("abort"), int))
                self._channel.close()
                await self._process.wait()
        except (WorkerError, TimeoutError):
            if left is None:
                left = Left(0, hung=int(not self._gone))
            self.kill()
        self._channel.close()
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
        self.joining: Child | None = None  # has started, and is given the config
        self.restarts = 0
        self._past: list[Family] = []

    def families(self) -> list[Family]:
        """What the processes of this place have counted and have.

        Sums are made by place, so that one that dies moves from the right to the left of the same addition: in
        another order the sum could come out a rounding error smaller, which Prometheus takes for a counter's restart.
        """
        known = self.child.known("families") if self.child is not None else None
        return total([self._past, decode(known, list[Family])]) if known is not None else self._past

    @property
    def trouble(self) -> str | None:
        """Why the connections that the kernel gives it wait, if they do."""
        if self.child is None:
            return f"worker {self.number} has ended, and the next one does not run yet"
        return f"{self.child} does not answer" if self.child.silent else None

    def clear(self) -> None:
        """Note that the process has ended."""
        self._past = lasting(self.families())
        self.child = None


def _copies(fds: Iterable[int]) -> list[int]:
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))  # noqa: PERF401 - those that were made are closed where one fails
    except OSError:
        close_all(copies)
        raise
    return copies


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
