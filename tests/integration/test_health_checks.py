"""Health checks and outlier detection of a running meshlet, before apps that fall ill."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import config_of, meshlet, until, write_config
from tests.support.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Patient(Server):
    """Answers `/health` with `status`, and anything else with its own address, or with `error` where that is set."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.status = 200
        self.error = 0
        self.checks = 0

    def _answer(self, sock: socket.socket) -> None:
        received = b""
        while data := sock.recv(65536):
            received += data
            while b"\r\n\r\n" in received:
                head, _, received = received.partition(b"\r\n\r\n")
                check = head.startswith(b"GET /health ")
                self.checks += check
                status = self.status if check else self.error or 200
                body = self.address.encode()
                sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@pytest.fixture
def apps() -> Iterator[list[Patient]]:
    with Patient() as one, Patient() as other:
        yield [one, other]


def config(apps: list[Patient], **details: Any) -> dict[str, Any]:
    written = config_of(apps[0].address)
    written["clusters"][0].update(endpoints=[app.address for app in apps], **details)
    return written


def test_an_ill_endpoint_gets_no_requests_until_it_is_well(apps: list[Patient], tmp_path: Path) -> None:
    check = {"path": "/health", "interval": "50ms", "unhealthy_threshold": 2, "healthy_threshold": 2}
    ill, well = apps
    with meshlet(tmp_path, config(apps, health_check=check)) as process, process.client() as client:
        said = f"cluster app: endpoint {ill.address} is"
        until(lambda: process.stderr.count("is healthy") == 2)
        assert Counter(client.get().text for _ in range(10)) == {ill.address: 5, well.address: 5}
        ill.status = 503
        until(lambda: f"{said} unhealthy: status 503" in process.stderr)
        assert {client.get().text for _ in range(10)} == {well.address}
        ill.status = 200
        until(lambda: process.stderr.count(f"{said} healthy") == 2)
        assert {client.get().text for _ in range(10)} == {ill.address, well.address}
        well.status = ill.status = 500
        until(lambda: process.stderr.count("unhealthy: ") == 3)
        assert {client.get().text for _ in range(10)} == {ill.address, well.address}  # panic: better than nobody


def test_nobody_is_well(apps: list[Patient], tmp_path: Path) -> None:
    for app in apps:
        app.status = 500
    check = {"path": "/health", "interval": "50ms"}
    with meshlet(tmp_path, config(apps, health_check=check, panic_threshold=0)) as process, process.client() as client:
        response = client.get()
        assert (response.status, response.field("x-meshlet-flag")) == (503, "UH")
        assert "none of the 2 endpoints of cluster app is available: 2 unhealthy, 0 ejected" in response.text


def test_checks_end_with_the_cluster(apps: list[Patient], tmp_path: Path) -> None:
    ill, well = apps
    check = {"path": "/health", "interval": "20ms"}
    with meshlet(tmp_path, config(apps, health_check=check)) as process:
        until(lambda: ill.checks > 3 and well.checks > 3)
        new = tmp_path / "new.yaml"
        (path,) = tmp_path.glob("*.yaml")
        write_config(new, config([well]))
        new.rename(path)
        until(lambda: "reloaded" in process.stderr)
        ill.checks = well.checks = 0
        with process.client() as client:
            assert {client.get().text for _ in range(50)} == {well.address}
        assert (ill.checks, well.checks) == (0, 0)


def test_an_endpoint_that_fails_is_ejected(apps: list[Patient], tmp_path: Path) -> None:
    outlier = {"consecutive_5xx": 3, "base_ejection_time": "300ms", "interval": "100ms"}
    failing, _ = apps
    failing.error = 500
    with meshlet(tmp_path, config(apps, outlier_detection=outlier)) as process, process.client() as client:
        statuses = [client.get().status for _ in range(20)]
        assert statuses.count(500) == 3
        assert f"endpoint {failing.address} is ejected for 0.3 s: consecutive-5xx" in process.stderr
        failing.error = 0
        until(lambda: client.get().text == failing.address)
        assert f"endpoint {failing.address} is back" in process.stderr
