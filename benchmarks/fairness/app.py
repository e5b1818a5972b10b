"""The attacker's app: `python -m benchmarks.fairness.app PORT`; the path of a request says what it does.

A request that asks for nothing special is sent to an nginx instead.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from threading import Thread

from benchmarks.fairness.attacks import app_scripts
from benchmarks.fairness.pump import Engine, Pump


def main() -> None:
    """Accept for as long as the process lives."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024) as listener:
        while True:
            sock, _ = listener.accept()
            Thread(target=_serve, args=(sock,), daemon=True).start()


def _serve(sock: socket.socket) -> None:
    """One connection, and one request on it."""
    with sock, suppress(OSError):
        engine = Engine()
        engine.add(Pump(sock, app_scripts(target(_head(sock)))))
        while not engine.poll(-1):
            pass


def _head(sock: socket.socket) -> bytes:
    """The request head, and what came along with it; as far as it came."""
    head = b""
    while b"\r\n\r\n" not in head and (data := sock.recv(65536)):
        head += data
    return head


def target(head: bytes) -> str:
    """What the request line asks for."""
    line = head.partition(b"\r\n")[0].decode("ascii", "replace")
    return line.split(" ")[1] if line.count(" ") == 2 else ""


if __name__ == "__main__":
    main()
