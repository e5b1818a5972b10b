"""A small app to put a proxy in front of: for the demo, for `deploy/pod.yaml`, for tests.

    python -m meshlet.example_app --listen 127.0.0.1:8080

It stands for somebody else's app, so it imports nothing of meshlet: http.server of the standard library
speaks HTTP/1.1 here, with keep-alive, a thread for each connection.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socket import AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

INDEX = """\
Hello from the example app. It answers at

  /                              this text
  /headers                       the headers of your request, as JSON
  /slow?seconds=2                after a while
  /status/503                    with any status
  /stream?lines=5&interval=0.5   a line at a time
"""
LONGEST_WAIT = 60.0
MOST_LINES = 1000


class ExampleApp(ThreadingMixIn, TCPServer):
    """The app, listening from the start; `serve` answers until `stop`.

    Not http.server's own HTTPServer, which looks its own name up in DNS when it starts.
    """

    allow_reuse_address = True
    request_queue_size = 128
    daemon_threads = True  # an idle keep-alive connection must not hold up the end

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        if ":" in host:
            self.address_family = AF_INET6
        super().__init__((host, port), Handler)
        self.stopping = False
        self._requests = 0
        self._idle = threading.Condition()

    @property
    def address(self) -> str:
        """HOST:PORT, with the port that the kernel chose where 0 was asked for."""
        host, port = self.server_address[:2]
        return f"[{host!s}]:{port}" if self.address_family == AF_INET6 else f"{host!s}:{port}"

    def serve(self) -> None:
        """Answer until `stop`, then until the requests at work have their answers."""
        self.serve_forever(poll_interval=0.05)
        with self._idle:
            self._idle.wait_for(lambda: self._requests == 0, timeout=LONGEST_WAIT)

    def stop(self) -> None:
        """Accept no more; callable from any thread and from a signal handler."""
        self.stopping = True
        # shutdown() waits for serve_forever(), which a signal handler has interrupted: never in this thread.
        threading.Thread(target=self.shutdown).start()

    def request_begins(self) -> None:
        with self._idle:
            self._requests += 1

    def request_ends(self) -> None:
        with self._idle:
            self._requests -= 1
            self._idle.notify_all()

    def __enter__(self) -> Self:
        """Serve in a thread, for tests and demos."""
        self._thread = threading.Thread(target=self.serve, name="example app")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: ExampleApp
    protocol_version = "HTTP/1.1"
    server_version = "example-app"
    sys_version = ""
    # One write for a small answer, sent at once: else its body waits for the ACK of its head.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.request_begins()
        try:
            self._respond()
            self.wfile.flush()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client left
        finally:
            self.server.request_ends()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815, names given by http.server

    def _respond(self) -> None:
        try:
            self._drain()
            self._route()
        except ValueError as error:
            self.close_connection = True  # the request may not have been read to its end
            self._answer(HTTPStatus.BAD_REQUEST, f"{error}\n")

    def _route(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match url.path.strip("/").split("/"):
            case [""]:
                self._answer(HTTPStatus.OK, INDEX)
            case ["headers"]:
                self._answer(HTTPStatus.OK, json.dumps(self._headers(), indent=2) + "\n", "application/json")
            case ["slow"]:
                seconds = _seconds(query.get("seconds", "1"))
                time.sleep(seconds)
                self._answer(HTTPStatus.OK, f"slept {seconds:g} s\n")
            case ["status", code]:
                status = HTTPStatus(int(code))
                self._answer(HTTPStatus.BAD_REQUEST if status < HTTPStatus.OK else status, f"{status.phrase}\n")
            case ["stream"]:
                lines = min(int(query.get("lines", 5)), MOST_LINES)
                self._stream(_paced(lines, _seconds(query.get("interval", "0.5"))))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, f"no such path: {url.path}\n")

    def _headers(self) -> dict[str, str | list[str]]:
        """Names as they came; the values of a repeated one as a list."""
        grouped: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            grouped.setdefault(name, []).append(value)
        return {name: values if len(values) > 1 else values[0] for name, values in grouped.items()}

    def _answer(self, status: HTTPStatus, body: str, content_type: str = "text/plain; charset=utf-8") -> None:
        self._head(status, content_type)
        if status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            self.end_headers()
            return
        data = b"" if status == HTTPStatus.RESET_CONTENT else body.encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _stream(self, lines: Iterator[str]) -> None:
        """In chunks, each sent at once; to HTTP/1.0, which has no chunks, up to the end of the connection."""
        chunked = self.request_version != "HTTP/1.0"
        self._head(HTTPStatus.OK, "text/plain; charset=utf-8")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        for line in lines:
            data = line.encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: HTTPStatus, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if self.server.stopping or self.request_version == "HTTP/1.0":
            self.close_connection = True
        if self.close_connection:
            self.send_header("Connection", "close")

    def _drain(self) -> None:
        """Read the request's body to its end: what is left unread would be taken for the next request."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self._skip(size + len(b"\r\n"))
            while self.rfile.readline().strip():  # trailers
                pass
        else:
            self._skip(int(self.headers.get("Content-Length", 0)))

    def _skip(self, size: int) -> None:
        while size and (data := self.rfile.read(min(size, 65536))):
            size -= len(data)

    def handle_expect_100(self) -> bool:
        """Ask for the body now: the client sends none before it has read this."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the name is http.server's
        """Say nothing: the proxy's access log tells it all."""


def _seconds(text: str) -> float:
    return max(0.0, min(float(text), LONGEST_WAIT))


def _paced(count: int, interval: float) -> Iterator[str]:
    for n in range(1, count + 1):
        if n > 1:
            time.sleep(interval)
        yield f"line {n}\n"


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m meshlet.example_app", description="A small app behind a proxy.")
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8080", help="default: %(default)s")
    host, _, port = parser.parse_args(arguments).listen.rpartition(":")
    app = ExampleApp(host.strip("[]"), int(port))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.stop())
    print(f"example app on http://{app.address}", flush=True)  # noqa: T201, it is a program of its own
    app.serve()


if __name__ == "__main__":
    main()
