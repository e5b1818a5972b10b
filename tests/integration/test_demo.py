"""`meshlet demo` as a process: what it prints works, and nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from meshlet.cli.demo import ADMIN, APP, LISTEN
from tests.support import tools
from tests.support.http1 import Client, Response
from tests.support.processes import Process, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshlet.config.units import Address

DEMO = (sys.executable, "-m", "meshlet", "demo")
FREE_PORTS = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
_GUIDE = re.compile(r"Open\n  http://(\S+)/ .*\n  http://(\S+)/ .*\n\nTry.*\n(?s:(.*))Ctrl-C")


class Guide(NamedTuple):
    listen: str
    admin: str
    commands: str

    @property
    def config(self) -> Path:
        match = re.search(r"\S+/meshlet\.yaml", self.commands)
        assert match is not None
        return Path(match[0])


def start(folder: Path, *arguments: str) -> Process:
    return Process([*DEMO, *arguments], folder)


def guide_of(demo: Process) -> Guide:
    match = until(lambda: _GUIDE.search(demo.stdout) or not demo.running, 40)
    assert isinstance(match, re.Match), f"it has ended with {demo.wait()}:\n{demo.stdout}\n{demo.stderr}"
    return Guide(*match.groups())


def children_of(demo: Process) -> dict[str, int]:
    """Process ids by what they run."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == demo.pid:
                app = b"example_app" in (folder / "cmdline").read_bytes()
                found["app" if app else "sidecar"] = int(folder.name)
    return found


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def get(address: str, path: str) -> Response:
    with Client(address) as client:
        return client.ask("GET", path, f"Host: {address}", "Connection: close")


@contextlib.contextmanager
def taken(address: Address) -> Iterator[None]:
    """Make sure that somebody listens there."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else does
            sock.bind((address.host, address.port))
            sock.listen()
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_a_signal_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    demo = start(tmp_path, *FREE_PORTS)
    with running(demo):
        guide = guide_of(demo)
        assert get(guide.listen, "/headers").json()["x-request-id"]
        assert get(guide.admin, "/ready").text == "ready\n"
        until(lambda: 'response_code="404"' in get(guide.admin, "/stats/prometheus").text)  # its own traffic
        children = children_of(demo)
        assert sorted(children) == ["app", "sidecar"]
        demo.signal(number)
        assert demo.wait() == 0
    assert all(gone(pid) for pid in children.values())
    assert not guide.config.parent.exists()
    assert "error" not in demo.stderr
    assert "\x1b" not in demo.stdout


@pytest.mark.system("curl")
def test_what_it_prints_can_be_pasted(tmp_path: Path) -> None:
    demo = start(tmp_path, *FREE_PORTS)
    with running(demo):
        guide = guide_of(demo)
        until(lambda: (guide.config.parent / "access.log").stat().st_size)
        output = tools.run("sh", "-e", "-c", guide.commands, both=True)
        assert "200, new connections: 1\n200, new connections: 0\n" in output
        assert output.count('"x-request-id"') == 1
        flags = re.findall(r"^x-meshlet-flag: (\w+)", output, re.MULTILINE)
        assert flags == ["UF", "UT", "DPE", "UT"]
        assert "line 5\n" in output
        assert re.search(r'^meshlet_requests_total\{.*response_flags="UF"\} 1$', output, re.MULTILINE)
        assert '"GET / HTTP/1.1" 200' in output
        assert f"{guide.config}: reloaded" in demo.stderr


def test_it_takes_other_ports_where_the_usual_ones_are_taken(tmp_path: Path) -> None:
    with taken(LISTEN), taken(ADMIN), taken(APP):
        demo = start(tmp_path)
        with running(demo):
            guide = guide_of(demo)
            assert f"{LISTEN} is taken: the sidecar is on {guide.listen} instead.\n" in demo.stdout
            assert f"{ADMIN} is taken: the admin port is on {guide.admin} instead.\n" in demo.stdout
            assert f"{APP} is taken: the example app is on " in demo.stdout
            assert get(guide.listen, "/").status == 200


def test_a_port_that_was_asked_for_must_be_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        demo = start(tmp_path, "--listen", address)
        with running(demo):
            assert demo.wait() == 1
    assert f"cannot listen on {address}: address already in use" in demo.stderr


def test_it_listens_for_everybody_where_it_is_told_to(tmp_path: Path) -> None:
    demo = start(tmp_path, "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0")
    with running(demo):
        guide = guide_of(demo)
        assert guide.listen.startswith("127.0.0.1:")
        assert '"0.0.0.0:' in guide.config.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--listen", "unix:/tmp/socket"), 2, "expected HOST:PORT"),
        (("--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"), 2, "expected a loopback address"),
    ],
)
def test_it_says_why_it_cannot_start(tmp_path: Path, arguments: tuple[str, ...], status: int, message: str) -> None:
    demo = start(tmp_path, *arguments)
    with running(demo):
        assert demo.wait(40) == status
    assert message in demo.stderr


@pytest.mark.parametrize(("dies", "stays", "name"), [("app", "sidecar", "example app"), ("sidecar", "app", "sidecar")])
def test_it_ends_when_a_part_of_it_dies(tmp_path: Path, dies: str, stays: str, name: str) -> None:
    demo = start(tmp_path, *FREE_PORTS)
    with running(demo):
        guide_of(demo)
        children = children_of(demo)
        os.kill(children[dies], signal.SIGKILL)
        assert demo.wait() == 1
    assert f"the {name} has ended with status -9" in demo.stderr
    assert gone(children[stays])


def test_a_terminal_gets_a_summary_and_its_ctrl_c_is_for_the_demo_alone(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    # setsid --ctty gives it the terminal, whose Ctrl-C reaches its whole process group.
    command = [tools.require("setsid"), "--ctty", "--wait", *DEMO, *FREE_PORTS]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as terminal:
        os.close(theirs)
        try:
            output = b""
            while not re.search(rb"\r\x1b\[K\d+ requests so far: \d+ x 200", output):
                output += os.read(ours, 4096)
            os.write(ours, b"\x03")
            with contextlib.suppress(OSError):  # EIO is a terminal's end of file
                while data := os.read(ours, 4096):
                    output += data
            assert terminal.wait(10) == 0
        finally:
            terminal.kill()
            os.close(ours)
    assert output.count(b"\x1b[KEnding.") == 1
    assert output.index(b"Ending.") < output.index(b"SIGTERM: draining")
