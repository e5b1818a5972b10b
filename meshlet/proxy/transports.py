"""What asyncio's transports do not offer by themselves."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_LINGER_NONE = struct.pack("ii", 1, 0)
# struct tcp_info begins with the connection's state, one byte (linux/tcp.h).
_TCP_CLOSE = 7


def peer_name(peer: object) -> str:
    """Return the address of a client, as `socket.accept` gave it, as text."""
    if not isinstance(peer, tuple):
        return "unix:"
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


def reset(transport: asyncio.Transport) -> None:
    """Close with RST, so that the peer cannot take what it has received for the whole."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    transport.abort()


def is_reset(transport: asyncio.Transport) -> bool:
    """Say whether the peer has reset the connection, where its end of stream had stopped us from reading."""
    sock = transport.get_extra_info("socket")
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE)
    except (OSError, IndexError):
        return False  # a Unix socket
