"""Endpoints that are found: by DNS over real sockets, and in a file that changes under a running meshlet."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import dns.rcode
import pytest

from meshlet.config.schema import Cluster as ClusterConfig
from meshlet.config.schema import Discovery
from meshlet.config.units import Address, Duration
from meshlet.example_app import ExampleApp
from meshlet.timers import Timers
from meshlet.upstream.cluster import Cluster
from tests.support.dns_server import DnsServer
from tests.support.processes import config_of, meshlet, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer() as server:
        yield server


class Found:
    """A cluster whose endpoints are found by asking `server`."""

    def __init__(self, server: DnsServer, *, longest: float = 60.0, **where: Any) -> None:
        discovery = Discovery(
            **where,
            resolvers=(Address.parse(server.address),),
            min_refresh=Duration(0.02),
            max_refresh=Duration(longest),
        )
        timers = Timers(time.monotonic, asyncio.get_running_loop().call_later)
        self.cluster = Cluster(ClusterConfig(name="app", discovery=discovery), timers, time.monotonic)

    async def __aenter__(self) -> Found:  # noqa: PYI034
        self.cluster.start()
        await self.cluster.settled.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cluster.close()
        await asyncio.sleep(0)

    @property
    def endpoints(self) -> list[str]:
        return [endpoint.name for endpoint in self.cluster.endpoints]

    @property
    def candidates(self) -> list[list[str]]:
        """The addresses of each endpoint."""
        return [list(map(str, endpoint.address.candidates())) for endpoint in self.cluster.endpoints]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)


APP = Address("app.test", 80)


BOTH = {("app.test", "A"): (60, ["10.0.0.2", "10.0.0.1"]), ("app.test", "AAAA"): (60, ["fd00::1", "fd00::2"])}
ONE_OF_EACH = {("app.test", "A"): (60, ["10.0.0.1"]), ("app.test", "AAAA"): (60, ["fd00::1"])}


@pytest.mark.parametrize(
    ("family", "endpoints", "asked"),
    [
        ("auto", [["10.0.0.1:80", "[fd00::1]:80"], ["10.0.0.2:80", "[fd00::2]:80"]], {"A", "AAAA"}),
        ("ipv4", [["10.0.0.1:80"], ["10.0.0.2:80"]], {"A"}),
        ("ipv6", [["[fd00::1]:80"], ["[fd00::2]:80"]], {"AAAA"}),
        ("all", [["10.0.0.1:80"], ["10.0.0.2:80"], ["[fd00::1]:80"], ["[fd00::2]:80"]], {"A", "AAAA"}),
    ],
)
async def test_families(server: DnsServer, family: str, endpoints: list[list[str]], asked: set[str]) -> None:
    server.records = BOTH | {("_http._tcp.app.test", "SRV"): (60, ["0 1 80 app.test."])}
    async with Found(server, dns=APP, family=family) as found:
        assert found.candidates == endpoints
        assert found.cluster.last_error is None
        assert {kind for _, kind in server.asked} == asked
    async with Found(server, srv="_http._tcp.app.test", family=family) as found:
        assert found.candidates == endpoints


async def test_fewer_of_one_family(server: DnsServer) -> None:
    """However many there are, each endpoint has somewhere to go when a family is dead."""
    server.records = BOTH | {("app.test", "AAAA"): (60, ["fd00::1"])}
    async with Found(server, dns=APP) as found:
        assert found.candidates == [["10.0.0.1:80", "[fd00::1]:80"], ["10.0.0.2:80", "[fd00::1]:80"]]
    server.records = BOTH | {("app.test", "A"): (60, ["10.0.0.1"])}
    async with Found(server, dns=APP) as found:
        assert found.candidates == [["10.0.0.1:80", "[fd00::1]:80"]]


@pytest.mark.parametrize(
    ("silent", "records", "endpoint"),
    [
        ("AAAA", {("app.test", "A"): (0, ["10.0.0.1"])}, "10.0.0.1:80"),
        ("A", {("app.test", "AAAA"): (0, ["fd00::1"])}, "[fd00::1]:80"),
    ],
    ids=["AAAA", "A"],
)
async def test_a_family_that_is_never_answered_about(
    server: DnsServer, silent: str, records: dict[tuple[str, str], tuple[int, list[str]]], endpoint: str
) -> None:
    server.records = records
    server.silent = silent
    began = time.monotonic()
    async with Found(server, dns=APP) as found:
        assert 0.04 < time.monotonic() - began < 4.5  # a question is given up after 5 s
        assert found.candidates == [[endpoint]]
        # Looking again neither waits for the question that is open nor adds another one.
        await found.until(lambda: found.cluster.updates_total >= 6)
        assert server.asked.count(("app.test", silent)) < 5
        assert found.cluster.last_error is None


async def test_what_comes_late_is_not_lost(server: DnsServer) -> None:
    server.records = ONE_OF_EACH
    server.late = {"AAAA": 0.3}
    async with Found(server, dns=APP) as found:
        assert found.candidates == [["10.0.0.1:80"]]
        (endpoint,) = found.cluster.endpoints
        await found.until(lambda: found.candidates == [["10.0.0.1:80", "[fd00::1]:80"]])
        assert found.cluster.endpoints == (endpoint,)  # with its connections, and what is known of it
        assert sorted(server.asked) == [("app.test", "A"), ("app.test", "AAAA")]


async def test_the_time_to_live_of_what_comes_late_counts(server: DnsServer) -> None:
    server.records = ONE_OF_EACH | {("app.test", "AAAA"): (1, ["fd00::1"])}
    server.late = {"AAAA": 0.2}
    async with Found(server, dns=APP) as found:
        server.records = {("app.test", "A"): (60, ["10.0.0.9"])}
        await found.until(lambda: found.endpoints == ["10.0.0.9:80"])


async def test_a_late_a_record_gives_the_endpoint_its_name(server: DnsServer) -> None:
    server.records = ONE_OF_EACH
    server.late = {"A": 0.3}
    async with Found(server, dns=APP) as found:
        assert found.candidates == [["[fd00::1]:80"]]
        await found.until(lambda: found.candidates == [["10.0.0.1:80", "[fd00::1]:80"]])


async def test_late_targets_of_srv(server: DnsServer) -> None:
    server.records = ONE_OF_EACH | {("_http._tcp.app.test", "SRV"): (60, ["3 7 80 app.test."])}
    server.late = {"AAAA": 0.3}
    async with Found(server, srv="_http._tcp.app.test") as found:
        assert found.candidates == [["10.0.0.1:80"]]
        await found.until(lambda: found.candidates == [["10.0.0.1:80", "[fd00::1]:80"]])
        assert [(each.priority, each.weight) for each in found.cluster.endpoints] == [(3, 7)]
        assert server.asked.count(("_http._tcp.app.test", "SRV")) == 1


@pytest.mark.parametrize("how", ["denied", "broken", "none"])
@pytest.mark.parametrize("kind", ["A", "AAAA"])
async def test_one_family_fails_from_the_start(server: DnsServer, kind: str, how: str) -> None:
    server.records = {key: value for key, value in ONE_OF_EACH.items() if key[1] != kind}
    if how != "none":
        setattr(server, how, kind)
    async with Found(server, dns=APP) as found:
        assert found.endpoints == ["[fd00::1]:80" if kind == "A" else "10.0.0.1:80"]
        assert found.cluster.last_error is None


@pytest.mark.parametrize(("family", "there", "lacks"), [("ipv4", "AAAA", "A"), ("ipv6", "A", "AAAA")])
async def test_none_of_the_family_that_is_wanted(server: DnsServer, family: str, there: str, lacks: str) -> None:
    server.records = {("app.test", there): BOTH["app.test", there]}
    async with Found(server, dns=APP, family=family) as found:
        assert found.endpoints == []
        assert found.cluster.last_error == f"app.test has no {lacks} records"


async def test_closed_while_one_family_is_late(server: DnsServer) -> None:
    server.records = ONE_OF_EACH
    server.silent = "AAAA"
    before = asyncio.all_tasks()
    async with Found(server, dns=APP) as found:
        assert len(asyncio.all_tasks()) > len(before) + 1  # the cluster's, and the question's
    server.silent = ""
    await found.until(lambda: asyncio.all_tasks() == before)
    assert found.candidates == [["10.0.0.1:80"]]


async def test_a_server_that_denies_the_name_for_the_lack_of_aaaa(server: DnsServer) -> None:
    server.records = {("app.test", "A"): (60, ["10.0.0.1"])}
    server.denied = "AAAA"
    async with Found(server, dns=APP) as found:
        assert found.endpoints == ["10.0.0.1:80"]
        assert found.cluster.last_error is None


async def test_one_half_fails(server: DnsServer) -> None:
    server.records = {("app.test", "A"): (0, ["10.0.0.1"]), ("app.test", "AAAA"): (0, ["fd00::1"])}
    async with Found(server, dns=APP) as found:
        server.broken = "AAAA"
        server.records["app.test", "A"] = (0, ["10.0.0.2"])
        await found.until(lambda: found.endpoints == ["10.0.0.2:80"])
        assert found.cluster.last_error == "no server can tell about app.test"


async def test_an_alias(server: DnsServer) -> None:
    server.records = {("app.test", "CNAME"): (60, ["real.test."]), ("real.test", "A"): (60, ["10.0.0.1"])}
    async with Found(server, dns=APP) as found:
        assert found.endpoints == ["10.0.0.1:80"]


async def test_the_time_to_live_is_honoured(server: DnsServer) -> None:
    server.records = {("app.test", "A"): (1, ["10.0.0.1"])}
    async with Found(server, dns=APP) as found:
        began = time.monotonic()
        server.records = {("app.test", "A"): (60, ["10.0.0.2"])}
        await found.until(lambda: found.endpoints == ["10.0.0.2:80"])
        assert 0.9 < time.monotonic() - began < 3
        assert server.asked.count(("app.test", "A")) == 2


async def test_the_alias_may_be_gone_sooner(server: DnsServer) -> None:
    """The shortest time to live of the chain counts."""
    server.records = {("app.test", "CNAME"): (1, ["real.test."]), ("real.test", "A"): (600, ["10.0.0.1"])}
    async with Found(server, dns=APP) as found:
        server.records = {("app.test", "A"): (60, ["10.0.0.2"])}
        await found.until(lambda: found.endpoints == ["10.0.0.2:80"])


async def test_max_refresh_bounds_the_time_to_live(server: DnsServer) -> None:
    server.records = {("app.test", "A"): (3600, ["10.0.0.1"])}
    async with Found(server, dns=APP, longest=0.05) as found:
        server.records = {("app.test", "A"): (3600, ["10.0.0.2"])}
        await found.until(lambda: found.endpoints == ["10.0.0.2:80"])


@pytest.mark.parametrize(
    ("rcode", "error"),
    [
        (dns.rcode.SERVFAIL, "no server can tell about app.test"),
        (dns.rcode.REFUSED, "no server can tell about app.test"),
        (dns.rcode.NXDOMAIN, "there is no name app.test"),
        (None, "app.test has neither A nor AAAA records"),
    ],
)
async def test_failure_keeps_the_last_answer(server: DnsServer, rcode: dns.rcode.Rcode | None, error: str) -> None:
    server.records = {("app.test", "A"): (0, ["10.0.0.1"])}
    async with Found(server, dns=APP) as found:
        server.rcode = rcode
        server.records = {("app.test", "TXT"): (0, ["x"])}
        await found.until(lambda: found.cluster.last_error is not None)
        assert found.cluster.last_error == error
        assert found.endpoints == ["10.0.0.1:80"]
        server.rcode = None
        server.records = {("app.test", "A"): (60, ["10.0.0.2"])}
        await found.until(lambda: found.endpoints == ["10.0.0.2:80"])
        assert found.cluster.last_error is None


async def test_no_name_at_the_start(server: DnsServer) -> None:
    async with Found(server, dns=APP) as found:
        assert found.endpoints == []
        assert found.cluster.last_error == "there is no name app.test"
        server.records = {("app.test", "A"): (60, ["10.0.0.1"])}
        await found.until(lambda: found.endpoints == ["10.0.0.1:80"])


async def test_srv_targets(server: DnsServer) -> None:
    server.records = {
        ("_http._tcp.app.test", "SRV"): (60, ["1 10 8080 one.test.", "2 0 8081 two.test."]),
        ("one.test", "A"): (60, ["10.0.0.1"]),
        ("two.test", "AAAA"): (60, ["fd00::2"]),
    }
    async with Found(server, srv="_http._tcp.app.test") as found:
        assert [(each.name, each.priority, each.weight) for each in found.cluster.endpoints] == [
            ("10.0.0.1:8080", 1, 10),
            ("[fd00::2]:8081", 2, 1),
        ]


async def test_srv_says_that_there_is_no_service(server: DnsServer) -> None:
    server.records = {("_http._tcp.app.test", "SRV"): (60, ["0 0 0 ."])}
    async with Found(server, srv="_http._tcp.app.test") as found:
        assert found.cluster.last_error == "_http._tcp.app.test has no SRV records"


async def test_localhost_needs_no_server(server: DnsServer) -> None:
    async with Found(server, dns=Address("localhost", 80)) as found:
        assert "127.0.0.1:80" in found.endpoints
        assert server.asked == []


async def test_closed_while_it_asks(server: DnsServer) -> None:
    server.records = {("app.test", "A"): (0, ["10.0.0.1"])}
    async with Found(server, dns=APP) as found:
        server.mute = True
        server.asked.clear()
        await found.until(lambda: bool(server.asked))


# --- a whole meshlet ---


def test_a_file_of_endpoints(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"

    def write(text: str) -> None:
        new = tmp_path / "new"
        new.write_text(text)
        new.rename(path)

    with ExampleApp() as one, ExampleApp() as other:
        config = config_of(one.address)
        del config["clusters"][0]["endpoints"]
        config["clusters"][0]["discovery"] = {"file": str(path)}
        with meshlet(tmp_path, config) as process, process.client() as client:
            response = client.get()
            assert (response.status, response.field("x-meshlet-flag")) == (503, "UH")
            assert f"{path}: (top level): found no such file" in response.text
            write(f"endpoints: ['{one.address}']")
            until(lambda: client.get().status == 200)
            write(f"endpoints: [{{address: '{other.address}', weight: 5}}]")
            until(lambda: other.address in process.get("/clusters?format=json").text)
            assert one.address not in process.get("/clusters?format=json").text
            write("endpoints: [nonsense]")
            until(lambda: f"{path}:1: endpoints[0]: found 'nonsense'" in process.stderr)
            assert client.get().status == 200
            assert process.stderr.count("nonsense") == 1
