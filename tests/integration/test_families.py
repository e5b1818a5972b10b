"""Names of both families, as `localhost` is in every Pod, with apps that listen on one, on both or on none."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dns_server import DnsServer, dns_server
from tests.support.http1 import dial
from tests.support.processes import Meshlet, config_of, meshlet, until
from tests.support.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class OneByOne(Server):
    """Answers one request on each connection, so that each has to be made."""

    def __init__(self, host: str) -> None:
        self.requests: list[bytes] = []
        super().__init__(self._answer, host)

    def _answer(self, sock: socket.socket) -> None:
        data = b""
        while not data.endswith((b"\r\n\r\n", b"body")):
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
        self.requests.append(data.partition(b" ")[0])
        sock.sendall(_OK)


@pytest.fixture(params=["127.0.0.1", "::1"])
def app(request: pytest.FixtureRequest) -> Iterator[OneByOne]:
    with OneByOne(request.param) as app:
        yield app


@pytest.fixture
def names() -> Iterator[DnsServer]:
    """Knows `app.test`, which is both addresses of loopback."""
    with dns_server() as server:
        server.records = {("app.test", "A"): (60, ["127.0.0.1"]), ("app.test", "AAAA"): (60, ["::1"])}
        yield server


def config_for(
    names: DnsServer, port: int, *, listener: dict[str, Any] | None = None, **cluster: Any
) -> dict[str, Any]:
    where = {"dns": f"app.test:{port}", "resolvers": [names.address]}
    return config_of("", listener=listener, clusters=[{"name": "app", "discovery": where, **cluster}])


def endpoints_of(process: Meshlet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = process.get("/clusters?format=json").json()[0]["endpoints"]
    return found


def assert_all_first_tries_meet_the_app(app: OneByOne, process: Meshlet) -> None:
    """Half of them would not, were the addresses two endpoints."""
    with process.client() as client:
        statuses = [client.get().status for _ in range(40)]
        statuses += [client.ask("POST", "/", "Host: a", "Content-Length: 4", body=b"body").status for _ in range(60)]
    assert statuses == [200] * 100
    assert app.requests == [b"GET"] * 40 + [b"POST"] * 60
    assert process.metric("meshlet_endpoint_requests_total") == 100  # tries
    assert process.metric("meshlet_endpoint_connect_failures_total") == 0


def test_an_app_at_one_address_of_a_name(app: OneByOne, names: DnsServer, tmp_path: Path) -> None:
    with meshlet(tmp_path, config_for(names, app.port)) as process:
        until(lambda: endpoints_of(process))
        assert_all_first_tries_meet_the_app(app, process)
        (endpoint,) = endpoints_of(process)
        assert (endpoint["address"], endpoint["connects_to"]) == (f"127.0.0.1:{app.port}", app.address)


@pytest.mark.parametrize("kind", ["endpoints", "dns"])
def test_an_app_on_ipv4_at_localhost(kind: str, tmp_path: Path) -> None:
    """Whether /etc/hosts has one address of it or two."""
    with OneByOne("127.0.0.1") as app:
        address = f"localhost:{app.port}"
        where = {"endpoints": [address]} if kind == "endpoints" else {"discovery": {"dns": address}}
        with meshlet(tmp_path, config_of("", clusters=[{"name": "app", **where}])) as process:
            until(lambda: endpoints_of(process))
            assert_all_first_tries_meet_the_app(app, process)
            assert [endpoint["address"] for endpoint in endpoints_of(process)] == [app.address]


def test_health_checks_and_outlier_detection_see_one_server(app: OneByOne, names: DnsServer, tmp_path: Path) -> None:
    config = config_for(
        names, app.port, health_check={"path": "/", "interval": "1s"}, outlier_detection={}, panic_threshold=0
    )
    with meshlet(tmp_path, config) as process, process.client() as client:
        until(lambda: client.get().status == 200)
        assert [endpoint["state"] for endpoint in endpoints_of(process)] == ["available"]
        assert f"endpoint 127.0.0.1:{app.port} is healthy" in process.stderr
        assert " is unhealthy" not in process.stderr


def test_tcp(app: OneByOne, names: DnsServer, tmp_path: Path) -> None:
    config = config_for(names, app.port, listener={"protocol": "tcp", "cluster": "app", "routes": []})
    with meshlet(tmp_path, config) as process:
        until(lambda: endpoints_of(process))
        for _ in range(5):
            with closing(dial(process.address)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert sock.recv(1000) == _OK
        assert process.metric("meshlet_endpoint_connect_failures_total") == 0


def test_an_app_that_leaves_one_address_for_the_other(names: DnsServer, tmp_path: Path) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(OneByOne("127.0.0.1")).port
        with meshlet(tmp_path, config_for(names, port)) as process, process.client() as client:
            until(lambda: client.get().status == 200)
            stack.close()
            response = client.get()
            assert (response.status, response.field("x-meshlet-flag")) == (503, "UF")
            assert response.text == (
                f"UF: connect to 127.0.0.1:{port}: connection refused, to [::1]:{port}: connection refused; "
                f"cluster app, endpoint 127.0.0.1:{port}, 1 attempt\n"
            )
            with socket.create_server(("::1", port), family=socket.AF_INET6) as other:
                other.settimeout(10)
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                accepted, _ = other.accept()
                with accepted:
                    accepted.recv(65536)
                    accepted.sendall(_OK)
                assert client.response().status == 200


def test_an_app_at_both_addresses(names: DnsServer, tmp_path: Path) -> None:
    """One of them gets it all."""
    with OneByOne("127.0.0.1") as app, socket.create_server(("::1", app.port), family=socket.AF_INET6) as other:
        other.setblocking(False)
        with meshlet(tmp_path, config_for(names, app.port)) as process, process.client() as client:
            until(lambda: endpoints_of(process))
            assert [client.get().status for _ in range(10)] == [200] * 10
        with pytest.raises(BlockingIOError):
            other.accept()


def test_every_address_is_an_endpoint_where_that_is_wanted(names: DnsServer, tmp_path: Path) -> None:
    with OneByOne("127.0.0.1") as app:
        config = config_for(names, app.port)
        config["clusters"][0]["discovery"]["family"] = "all"
        with meshlet(tmp_path, config) as process, process.client() as client:
            until(lambda: endpoints_of(process))
            assert [endpoint["address"] for endpoint in endpoints_of(process)] == [
                f"127.0.0.1:{app.port}",
                f"[::1]:{app.port}",
            ]
            assert {client.get().status for _ in range(4)} == {200}
            assert process.metric("meshlet_endpoint_connect_failures_total") > 0


def test_a_name_server_that_is_silent_about_one_family(app: OneByOne, names: DnsServer, tmp_path: Path) -> None:
    names.silent = "A" if app.address.startswith("[") else "AAAA"
    with meshlet(tmp_path, config_for(names, app.port)) as process, process.client() as client:
        until(lambda: client.get().status == 200)
        assert "warning" not in process.stderr
