from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import click
import pytest
from click.testing import CliRunner, Result

from meshlet.cli.admin_client import DEFAULT, AdminClient, AdminError, admin_option
from meshlet.cli.explain import command
from meshlet.config.units import Address
from tests.support.explanations import explained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Answers = dict[str, tuple[int, bytes]]


class FakeAdmin:
    """Answers paths with what it is told; `raw` goes out as it is."""

    def __init__(self, unix: str | None = None) -> None:
        self.answers: Answers = {}
        self.raw: bytes | None = None
        self.server_name = "meshlet"
        self.asked: list[tuple[str, dict[str, str], str | None]] = []
        self.release = threading.Event()  # what a stream waits for after its first line
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.answer(self)

            def version_string(self) -> str:
                return fake.server_name

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return ""

        server = socketserver.ThreadingUnixStreamServer if unix else socketserver.ThreadingTCPServer
        self._server: Any = server(unix or ("127.0.0.1", 0), Handler)  # type: ignore[arg-type]
        self.address = f"unix:{unix}" if unix else f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        self.asked.append((url.path, dict(parse_qsl(url.query)), request.headers["Host"]))
        if self.raw is not None:
            request.wfile.write(self.raw)
            request.close_connection = True
            return
        if url.path == "/stream":
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"4\r\none\n\r\n")
            self.release.wait(10)
            request.wfile.write(b"6\r\ntwo\nth\r\n5\r\nree\r\n\r\n0\r\n\r\n")
            return
        status, body = self.answers.get(url.path, (404, b"no such endpoint; GET / lists what there is\n"))
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def admin() -> Iterator[FakeAdmin]:
    with closing(FakeAdmin()) as fake:
        yield fake


def client(admin: FakeAdmin, timeout: float = 10.0) -> AdminClient:
    return AdminClient(Address.parse(admin.address), timeout)


def explain(admin: FakeAdmin | str, *arguments: str) -> Result:
    address = admin if isinstance(admin, str) else admin.address
    return CliRunner().invoke(command, [*arguments, "--admin", address], prog_name="meshlet explain")


# --- the client ---


def test_json_and_text(admin: FakeAdmin) -> None:
    admin.answers["/x"] = (200, '{"a": "ü"}'.encode())
    assert client(admin).get_json("/x", {"q": "a&b", "none": None, "n": 3}) == {"a": "ü"}
    assert client(admin).get_text("/x") == '{"a": "ü"}'
    assert admin.asked == [("/x", {"q": "a&b", "n": "3"}, "localhost"), ("/x", {}, "localhost")]


def test_a_unix_socket(tmp_path: Path) -> None:
    with closing(FakeAdmin(str(tmp_path / "admin.sock"))) as fake:
        fake.answers["/x"] = (200, b"[1]")
        assert client(fake).get_json("/x") == [1]


def test_lines_come_as_they_are_sent(admin: FakeAdmin) -> None:
    lines = client(admin, timeout=5).stream_lines("/stream")
    assert next(lines) == b"one"
    assert not admin.release.is_set()
    admin.release.set()
    assert list(lines) == [b"two", b"three"]


def test_a_stream_can_be_left(admin: FakeAdmin) -> None:
    lines = client(admin).stream_lines("/stream")
    assert next(lines) == b"one"
    lines.close()  # type: ignore[attr-defined]


def test_a_stream_that_breaks_off(admin: FakeAdmin) -> None:
    admin.raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n5\r\nt"
    lines = client(admin).stream_lines("/stream")
    assert next(lines) == b"one"
    with pytest.raises(AdminError, match="closed the connection before its answer was complete"):
        list(lines)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "closed the connection before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "closed the connection before its answer was complete"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP: is this the admin port of a meshlet?"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "something else than JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"[" * 99999, "something else than JSON"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello", "404: is this the admin port of a meshlet?"),
    ],
)
def test_what_is_no_admin_port(admin: FakeAdmin, raw: bytes, words: str) -> None:
    admin.raw = raw
    with pytest.raises(AdminError) as caught:
        client(admin).get_json("/x")
    assert words in str(caught.value)
    assert admin.address in str(caught.value)


def test_what_meshlet_refuses_is_told_in_its_words(admin: FakeAdmin) -> None:
    admin.answers["/x"] = (400, b"limit: expected a number\n")
    admin.answers["/empty"] = (503, b"")
    admin.answers["/broken"] = (500, b"Server got itself in trouble")
    with pytest.raises(AdminError) as caught:
        client(admin).get_text("/x")
    assert (str(caught.value), caught.value.status) == ("limit: expected a number", 400)
    with pytest.raises(AdminError, match="answered /empty with 503"):
        client(admin).get_text("/empty")
    with pytest.raises(AdminError, match="could not answer /broken: meshlet's own log says why"):
        client(admin).get_text("/broken")


@pytest.fixture
def free() -> Iterator[str]:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_nobody_answers(free: str, tmp_path: Path) -> None:
    for address in (free, f"unix:{tmp_path}/none.sock"):
        with pytest.raises(AdminError) as caught:
            AdminClient(Address.parse(address)).get_text("/")
        assert str(caught.value).startswith(f"no meshlet answers on {address}: is it running")
        assert caught.value.exit_code == 1
        assert caught.value.status == 0


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address("127.0.0.1", server.getsockname()[1])
        with pytest.raises(AdminError, match=r"did not answer within 0\.05 s"):
            AdminClient(address, timeout=0.05).get_text("/")


def test_a_path_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AdminError):
        AdminClient(Address.parse(f"unix:{tmp_path}")).get_text("/")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], "127.0.0.1:15000"),
        (["--admin", "[::1]:9"], "[::1]:9"),
        (["--admin", "unix:/run/m.sock"], "unix:/run/m.sock"),
        (["--admin", "localhost:15001"], "localhost:15001"),
    ],
)
def test_the_option(given: list[str], found: str) -> None:
    @click.command
    @admin_option
    def show(admin: Address) -> None:
        click.echo(f"{admin} {isinstance(admin, Address)}")

    assert CliRunner().invoke(show, given).output == f"{found} True\n"
    assert str(DEFAULT) in CliRunner().invoke(show, ["--help"]).output


@pytest.mark.parametrize("given", ["15000", "127.0.0.1:0", "unix:", "host:port"])
def test_an_address_that_is_wrong(given: str) -> None:
    result = explain(given, "id-1")
    assert result.exit_code == 2
    assert f"found '{given}', expected" in " ".join(result.stderr.split())


def test_it_is_light() -> None:
    code = "import sys; import meshlet.cli.admin_client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiohttp", "http.client", "msgspec", "uvloop", "yaml"} & set(loaded)


# --- the command ---


def test_a_request_by_its_id(admin: FakeAdmin) -> None:
    facts = explained(status=503, flag="UF", error="connect to 10.0.0.1:8080: connection refused")
    admin.answers["/explain"] = (200, json.dumps([facts]).encode())
    result = explain(admin, "id-1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("GET /reviews/7: 503 UF, after 0.500 s\n")
    assert "check: nothing listens on 10.0.0.1:8080" in result.stdout
    assert result.stdout.endswith("over with 503, UF\n")
    result = explain(admin, "id-1", "--output", "json")
    assert json.loads(result.stdout) == [facts]
    assert [query for _, query, _ in admin.asked] == [{"id": "id-1", "format": "json"}] * 2


def test_the_last_ones(admin: FakeAdmin) -> None:
    admin.answers["/explain"] = (200, json.dumps([explained(status=500), explained(status=501)]).encode())
    for arguments in (["--last"], ["--last", "7"], ["--last", "--output", "json"]):
        assert explain(admin, *arguments).exit_code == 0
    assert [query["limit"] for _, query, _ in admin.asked] == ["1", "7", "1"]
    text = explain(admin, "--last", "2").stdout
    assert text.index(": 500") < text.index(": 501")


def test_none(admin: FakeAdmin) -> None:
    admin.answers["/explain"] = (200, b"[]")
    result = explain(admin, "--last")
    assert (result.exit_code, result.stdout) == (0, "no request has failed or was slow\n")
    assert explain(admin, "--last", "--output", "json").stdout == "[]\n"


def test_not_found(admin: FakeAdmin) -> None:
    admin.answers["/explain"] = (404, b"nothing is kept about this request. Kept are \xe2\x80\xa6\n")
    result = explain(admin, "id-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: nothing is kept about this request. Kept are …\n"


def test_no_meshlet(free: str) -> None:
    result = explain(free, "id-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Error: no meshlet answers on {free}: is it running" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["id-1", "--last", "3"], ["--last", "0"], ["--last", "1001"]])
def test_arguments_that_are_wrong(admin: FakeAdmin, arguments: list[str]) -> None:
    assert explain(admin, *arguments).exit_code == 2
    assert admin.asked == []


def test_help_has_examples() -> None:
    result = CliRunner().invoke(command, ["--help"], prog_name="meshlet explain")
    assert result.exit_code == 0
    assert "  meshlet explain --last\n" in result.stdout
