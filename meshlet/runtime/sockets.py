"""Listening sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlet.config.units import Address

# The kernel cuts it to net.core.somaxconn.
_BACKLOG = 4096


class BindError(OSError):
    """An address cannot be listened on; the message names it and says what to do. `number` is the kernel's errno."""

    def __init__(self, message: str, number: int | None) -> None:
        super().__init__(message)
        self.errno = number


def bind(address: Address, *, reuse_port: bool = False) -> socket.socket:
    """Return a listening, non-blocking socket. Raises BindError."""
    try:
        sock = _unix(address.path) if address.path else _tcp(address, reuse_port=reuse_port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BindError(f"cannot listen on {address}: {reason}{_advice(error, address)}", error.errno) from error
    sock.setblocking(False)
    return sock


def bind_shared(address: Address, count: int) -> tuple[socket.socket, ...]:
    """Return sockets for so many processes on one address, each with its own backlog. Raises BindError.

    Those of a Unix socket share one backlog: it has no SO_REUSEPORT.
    """
    if address.path:
        first = bind(address)
        return first, *(first.dup() for _ in range(count - 1))
    if address.port:
        # Another process of the same user could share the port with us, and neither would notice.
        bind(address).close()
    sockets = [bind(address, reuse_port=True)]
    address = address._replace(port=sockets[0].getsockname()[1])
    try:
        sockets += (bind(address, reuse_port=True) for _ in range(count - 1))
    except BindError:
        for sock in sockets:
            sock.close()
        raise
    return tuple(sockets)


def _tcp(address: Address, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and address.host != "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):  # noqa: PTH116
            os.unlink(path)  # noqa: PTH108 - left behind by a process that was killed
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True


def _advice(error: OSError, address: Address) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return f"; another process has it: `ss -ltnp 'sport = :{address.port}'` names it, or choose port 0"
    if error.errno == errno.EACCES:
        return "; ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
    if error.errno == errno.EADDRNOTAVAIL:
        return "; no interface of this machine has that address"
    return ""


def key_of(name: str, address: Address) -> object:
    """Return what tells the socket of a listener from the others: with port 0 each has a port of its own."""
    return address if address.port or address.path else (name, address)


def name_of(sock: socket.socket) -> str:
    """Return the address of a socket as it is written in a config, with the real port."""
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
