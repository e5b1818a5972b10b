"""Frames between the supervisor and a worker, over a Unix stream socket; a frame may carry descriptors.

The socket is read and written here, because an asyncio transport would lose the descriptors (SCM_RIGHTS, unix(7)).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger("meshlet.runtime")

_HEADER = Struct(">II")  # bytes of payload, descriptors
# A config file of 4 MiB may have 40 MiB with all its defaults; whatever is larger than this is a mistake.
MAX_PAYLOAD = 64 * 1024 * 1024
_MAX_FDS = 253  # SCM_MAX_FD: what the kernel passes on at once
_READ = 256 * 1024


class Channel:
    """One end. `on_frame` gets the payload and the descriptors, which are its own from then on; `on_close` comes once.

    Descriptors that are missing, because this process has too many open already, are missing all together.
    """

    def __init__(
        self, sock: socket.socket, on_frame: Callable[[bytes, list[int]], None], on_close: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_frame = on_frame
        self._on_close = on_close
        self._sending = asyncio.Lock()
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._closed = False
        self._loop.add_reader(sock.fileno(), self._read)

    async def send(self, payload: bytes, fds: Sequence[int] = ()) -> None:
        """Send one frame. Raises ValueError if it is too large, OSError where the other end is gone."""
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a message of {len(payload)} bytes, expected at most {MAX_PAYLOAD}")
        frame = _HEADER.pack(len(payload), len(fds)) + payload
        async with self._sending:
            if self._closed:
                raise ConnectionResetError("the channel is closed")
            try:
                await self._send(frame, fds)
            except BaseException:
                self.close()  # half a frame cannot be taken back
                raise

    def close(self) -> None:
        """Close this end; the other one is told by the kernel."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        close_all(self._fds)
        self._fds = []
        self._on_close()

    # --- out ---

    async def _send(self, frame: bytes, fds: Sequence[int]) -> None:
        # Any byte can carry descriptors, so each batch rides on one of the frame's own.
        batches = [fds[start : start + _MAX_FDS] for start in range(0, len(fds), _MAX_FDS)]
        for index, batch in enumerate(batches):
            await self._send_fds(frame[index : index + 1], batch)
        await self._loop.sock_sendall(self._sock, memoryview(frame)[len(batches) :])

    async def _send_fds(self, byte: bytes, fds: Sequence[int]) -> None:
        while True:
            try:
                socket.send_fds(self._sock, [byte], list(fds))
            except BlockingIOError:
                await self._writable()
            else:
                return

    async def _writable(self) -> None:
        ready = asyncio.Event()
        fd = self._sock.fileno()
        self._loop.add_writer(fd, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(fd)

    # --- in ---

    def _read(self) -> None:
        try:
            data, fds, _flags, _peer = socket.recv_fds(self._sock, _READ, _MAX_FDS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, fds = b"", []
        self._fds += fds
        if not data:
            self.close()
            return
        self._buffer += data
        self._cut()

    def _cut(self) -> None:
        while not self._closed and len(self._buffer) >= _HEADER.size:
            size, count = _HEADER.unpack_from(self._buffer)
            if size > MAX_PAYLOAD:
                logger.error("a message of %d bytes from another process of meshlet: not listening any more", size)
                self.close()
                return
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                payload = bytes(view[_HEADER.size : end])
            del self._buffer[:end]
            self._on_frame(payload, self._take(count))

    def _take(self, count: int) -> list[int]:
        fds, self._fds = self._fds[:count], self._fds[count:]
        if len(fds) == count:
            return fds
        # Out of descriptors, the kernel drops the rest (MSG_CTRUNC), and nobody can tell which ones these are.
        close_all(fds)
        return []


def close_all(fds: list[int]) -> None:
    """Close descriptors that came or were to go with a frame."""
    for fd in fds:
        os.close(fd)
