"""Discovery: when it looks again, what it keeps, and files."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from meshlet.config.mistakes import ConfigError
from meshlet.config.units import Address
from meshlet.upstream.discovery import file, names
from meshlet.upstream.discovery.base import Retries
from meshlet.upstream.discovery.dns import Dns, Srv
from meshlet.upstream.discovery.dns_client import Addresses, DnsClient, DnsError, Service
from meshlet.upstream.discovery.file import read_endpoints
from meshlet.upstream.resolver import resolve
from tests.unit.upstream.support import Bench

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from meshlet.config.schema import EndpointConfig
    from meshlet.upstream.discovery.base import Discovery, Found


def addresses(bench: Bench) -> list[str]:
    return [endpoint.name for endpoint in bench.cluster.endpoints]


def candidates(bench: Bench) -> list[list[str]]:
    """The addresses of each endpoint, in the order in which they are tried."""
    return [list(map(str, endpoint.address.candidates())) for endpoint in bench.cluster.endpoints]


# --- when to look again ---


def test_time_to_live_within_bounds() -> None:
    retries = Retries(2, 60)
    assert [retries.after(ttl) for ttl in (0, 1.5, 30, 1e9)] == [2, 2, 30, 60]


def test_failures_back_off() -> None:
    retries = Retries(2, 60)
    assert [retries.after(None) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    retries.after(30)
    assert retries.after(None) == 2
    for _ in range(5000):
        assert retries.after(None) <= 60


# --- host names in `endpoints` ---


class Resolver:
    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self.asked: list[str] = []

    def __call__(self, address: Address, family: int = socket.AF_UNSPEC) -> asyncio.Future[tuple[Address, ...]]:
        self.asked.append(address.host)
        answer: asyncio.Future[tuple[Address, ...]] = asyncio.get_running_loop().create_future()
        if address.host not in self.known:
            answer.set_exception(OSError(errno.ENOENT, "Name or service not known"))
        else:
            answer.set_result(tuple(Address(host, address.port) for host in self.known[address.host]))
        return answer


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    fake = Resolver()
    with mock.patch.object(names, "resolve", fake):
        yield fake


def test_names_are_resolved_again_and_again(resolver: Resolver) -> None:
    resolver.known["a"] = ("10.0.0.2", "10.0.0.3")
    with Bench("10.0.0.1:80", {"address": "a:81", "weight": 5}, dns_refresh="5s") as bench:
        assert addresses(bench) == ["10.0.0.1:80"]
        bench.cluster.start()
        bench.loop.run()
        assert addresses(bench) == ["10.0.0.1:80", "10.0.0.2:81", "10.0.0.3:81"]
        assert [endpoint.weight for endpoint in bench.cluster.endpoints] == [1, 5, 5]
        resolver.known["a"] = ("10.0.0.3",)
        bench.loop.advance(5.1)
        assert addresses(bench) == ["10.0.0.1:80", "10.0.0.3:81"]


def test_a_name_that_fails_keeps_its_addresses(resolver: Resolver) -> None:
    resolver.known = {"a": ("10.0.0.1",), "b": ("10.0.0.2",)}
    with Bench("a:80", "b:80", dns_refresh="5s") as bench:
        bench.cluster.start()
        bench.loop.run()
        resolver.known = {"b": ("10.0.0.3",)}
        bench.loop.advance(5.1)
        assert addresses(bench) == ["10.0.0.1:80", "10.0.0.3:80"]
        assert bench.cluster.last_error == "cannot resolve a: name or service not known"


def test_an_unknown_name_is_asked_for_again_soon(resolver: Resolver) -> None:
    with Bench("a:80", dns_refresh="1h") as bench:
        bench.cluster.start()
        bench.loop.run()
        assert bench.cluster.settled.is_set()
        resolver.known["a"] = ("10.0.0.1",)
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.1:80"]
        bench.loop.advance(3000)
        assert len(resolver.asked) == 2


def test_a_name_of_both_families_is_one_server(resolver: Resolver) -> None:
    resolver.known = {"localhost": ("::1", "127.0.0.1"), "six": ("fd00::1",)}
    with Bench({"address": "localhost:80", "weight": 5, "zone": "a"}, "six:81", "10.0.0.1:82") as bench:
        bench.cluster.start()
        bench.loop.run()
        assert candidates(bench) == [["127.0.0.1:80", "[::1]:80"], ["[fd00::1]:81"], ["10.0.0.1:82"]]
        assert (bench[0].weight, bench[0].zone) == (5, "a")


def test_what_an_endpoint_has_learned_outlives_the_next_look(resolver: Resolver) -> None:
    resolver.known["a"] = ("10.0.0.1", "fd00::1")
    with Bench("a:80", dns_refresh="5s") as bench:
        bench.cluster.start()
        bench.loop.run()
        (endpoint,) = bench.cluster.endpoints
        endpoint.address.connected(Address("fd00::1", 80))
        resolver.known["a"] = ("10.0.0.1", "fd00::2")
        bench.loop.advance(5.1)
        assert bench.cluster.endpoints == (endpoint,)
        assert candidates(bench) == [["[fd00::2]:80", "10.0.0.1:80"]]
        resolver.known["a"] = ("10.0.0.1",)
        bench.loop.advance(5.1)
        assert bench.cluster.endpoints == (endpoint,)
        assert candidates(bench) == [["10.0.0.1:80"]]


def test_the_servers_of_a_name_learn_together(resolver: Resolver) -> None:
    resolver.known["a"] = ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2")
    resolver.known["b"] = ("10.0.0.3", "fd00::3")
    with Bench("a:80", "b:80") as bench:
        bench.cluster.start()
        bench.loop.run()
        assert candidates(bench) == [
            ["10.0.0.1:80", "[fd00::1]:80"],
            ["10.0.0.2:80", "[fd00::2]:80"],
            ["10.0.0.3:80", "[fd00::3]:80"],
        ]
        bench[0].address.connected(Address("10.0.0.1", 80))
        assert candidates(bench) == [["10.0.0.1:80"], ["10.0.0.2:80"], ["10.0.0.3:80", "[fd00::3]:80"]]


class Held(Resolver):
    """Answers when a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: dict[int, list[asyncio.Future[tuple[Address, ...]]]] = {}

    def __call__(self, address: Address, family: int = socket.AF_UNSPEC) -> asyncio.Future[tuple[Address, ...]]:
        answer: asyncio.Future[tuple[Address, ...]] = asyncio.get_running_loop().create_future()
        self.questions.setdefault(family, []).append(answer)
        return answer

    def answer(self, family: int, *hosts: str) -> None:
        """Answer the oldest open question about this family; that there is nothing, where there is no host."""
        question = next(question for question in self.questions[family] if not question.done())
        if hosts:
            question.set_result(tuple(Address(host, 80) for host in hosts))
        else:
            question.set_exception(socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"))

    @property
    def counts(self) -> list[int]:
        families = (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)
        return [len(self.questions.get(family, ())) for family in families]


@pytest.fixture
def held() -> Iterator[Held]:
    fake = Held()
    with mock.patch.object(names, "resolve", fake):
        yield fake


def test_both_families_are_one_question_while_that_is_answered_soon(held: Held) -> None:
    with Bench("a:80") as bench:
        bench.cluster.start()
        bench.loop.advance(0.049)
        held.answer(socket.AF_UNSPEC, "10.0.0.1", "fd00::1")
        bench.loop.run()
        assert candidates(bench) == [["10.0.0.1:80", "[fd00::1]:80"]]
        assert held.counts == [1, 0, 0]


def test_a_family_that_nobody_answers_about_delays_the_other_by_50_ms(held: Held) -> None:
    with Bench("a:80", dns_refresh="5s") as bench:
        bench.cluster.start()
        bench.loop.advance(0.051)
        assert held.counts == [1, 1, 1]
        held.answer(socket.AF_INET, "10.0.0.1")
        bench.loop.run()
        assert candidates(bench) == [["10.0.0.1:80"]]
        assert (bench.cluster.settled.is_set(), bench.cluster.last_error) == (True, None)
        # The next look asks for what was answered, and waits on for what was not.
        bench.loop.advance(5.1)
        assert held.counts == [1, 2, 1]
        held.answer(socket.AF_INET, "10.0.0.2")
        bench.loop.run()
        assert candidates(bench) == [["10.0.0.2:80"]]
        # What was asked first comes last: it is believed in what it alone tells.
        held.answer(socket.AF_UNSPEC, "10.0.0.1", "fd00::1")
        bench.loop.run()
        assert candidates(bench) == [["10.0.0.2:80", "[fd00::1]:80"]]
        # A failure that comes late takes nothing away.
        held.answer(socket.AF_INET6)
        bench.loop.run()
        assert candidates(bench) == [["10.0.0.2:80", "[fd00::1]:80"]]
        assert bench.cluster.last_error is None


@pytest.mark.parametrize("first", [socket.AF_INET6, socket.AF_UNSPEC])
def test_whatever_is_known_first_will_do(held: Held, first: int) -> None:
    with Bench("a:80") as bench:
        bench.cluster.start()
        bench.loop.advance(0.1)
        held.answer(socket.AF_INET)
        bench.loop.advance(1)
        assert not bench.cluster.settled.is_set()
        held.answer(first, "fd00::1")
        bench.loop.run()
        assert candidates(bench) == [["[fd00::1]:80"]]


def test_a_name_that_nobody_knows_after_a_while(held: Held) -> None:
    with Bench("a:80") as bench:
        bench.cluster.start()
        bench.loop.advance(0.1)
        for family in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
            held.answer(family)
        bench.loop.run()
        assert bench.cluster.last_error == "cannot resolve a: no address associated with hostname"


def test_answers_after_the_cluster_is_closed(held: Held) -> None:
    with Bench("a:80") as bench:
        bench.cluster.start()
        bench.loop.advance(0.1)
        bench.cluster.close()
        bench.loop.run()
        held.answer(socket.AF_UNSPEC, "10.0.0.1")
        held.answer(socket.AF_INET)
        bench.loop.run()
        assert bench.cluster.endpoints == ()


async def test_the_systems_resolver_knows_the_hosts_file() -> None:
    assert Address("127.0.0.1", 80) in await resolve(Address("localhost", 80))
    assert await resolve(Address("localhost", 80), socket.AF_INET) == (Address("127.0.0.1", 80),)
    with pytest.raises(OSError, match=r".+"):
        await resolve(Address("no-such-name.invalid", 80), socket.AF_INET6)


async def test_a_family_that_is_dead_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names there are, what nobody answers holds up its like alone, and a bounded number of threads."""
    answered = threading.Event()
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, family: int, _: int) -> list[Any]:
        asked.append(host)
        if family == socket.AF_INET6:
            answered.wait(10)
        return [(family, 1, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    before = threading.active_count()
    stuck = [resolve(Address(f"six{number}", 80), socket.AF_INET6) for number in range(20)]
    for number in range(20):
        assert await resolve(Address(f"four{number}", 80), socket.AF_INET) == (Address("10.0.0.1", 80),)
    assert threading.active_count() - before <= 5
    stuck[-1].cancel()
    await asyncio.sleep(0)
    answered.set()
    for question in stuck[:-1]:
        await question
    assert "six19" not in asked  # nobody waits for it any more
    async with asyncio.timeout(5):
        while threading.active_count() > before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- DNS ---


class Client(DnsClient):
    """Answers as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, Addresses] = {}
        self.records: list[Service] = []
        self.ttl = 30.0
        self.asked = 0

    async def look_up(self, hosts: Collection[str]) -> None:
        self.asked += len(hosts)

    def addresses(self, host: str) -> Addresses:
        if host not in self.names:
            raise DnsError(f"there is no name {host}")
        return self.names[host]

    async def services(self, name: str) -> tuple[list[Service], float]:
        self.asked += 1
        if not self.records:
            raise DnsError(f"{name} has no SRV records")
        return self.records, self.ttl


def found_by(discovery: Discovery) -> Bench:
    bench = Bench(discovery={"file": "/nowhere"})
    bench.cluster._discovery = discovery
    return bench


def test_dns_asks_when_the_answer_is_too_old() -> None:
    client = Client()
    client.names["app"] = Addresses(("10.0.0.1", "fd00::1"), 30)
    with found_by(Dns(Address("app", 80), client, Retries(1, 60))) as bench:
        bench.cluster.start()
        bench.loop.run()
        assert addresses(bench) == ["10.0.0.1:80"]
        client.names["app"] = Addresses(("10.0.0.2",), 30)
        bench.loop.advance(29)
        assert client.asked == 1
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.2:80"]


def test_dns_fails() -> None:
    client = Client()
    client.names["app"] = Addresses(("10.0.0.1",), 5)
    with found_by(Dns(Address("app", 80), client, Retries(1, 60))) as bench:
        bench.cluster.start()
        bench.loop.run()
        del client.names["app"]
        bench.loop.advance(5.1)
        assert (addresses(bench), bench.cluster.last_error) == (["10.0.0.1:80"], "there is no name app")
        bench.loop.advance(7)  # after 1, 2 and 4 seconds
        assert client.asked == 5
        client.names["app"] = Addresses(("10.0.0.2",), 5)
        bench.loop.advance(8)
        assert (addresses(bench), bench.cluster.last_error) == (["10.0.0.2:80"], None)


def test_half_an_answer_is_asked_for_again_soon() -> None:
    client = Client()
    client.names["app"] = Addresses(("10.0.0.1",), 50, "no server can tell about app")
    with found_by(Dns(Address("app", 80), client, Retries(1, 60))) as bench:
        bench.cluster.start()
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.1:80"]
        assert bench.cluster.last_error == "no server can tell about app"
        assert client.asked == 2


def test_srv() -> None:
    client = Client()
    client.names = {"one": Addresses(("10.0.0.1", "10.0.0.2"), 50), "two": Addresses(("10.0.0.3",), 20)}
    client.records = [Service(1, 10, 80, "one"), Service(2, 0, 81, "two")]
    with found_by(Srv("_http._tcp.app", client, Retries(1, 60))) as bench:
        bench.cluster.start()
        bench.loop.run()
        assert [(each.name, each.priority, each.weight) for each in bench.cluster.endpoints] == [
            ("10.0.0.1:80", 1, 10),
            ("10.0.0.2:80", 1, 10),
            ("10.0.0.3:81", 2, 1),
        ]
        # A target that fails keeps what it had; the rest changes.
        client.names = {"one": Addresses(("10.0.0.9",), 50)}
        bench.loop.advance(20.1)
        assert addresses(bench) == ["10.0.0.9:80", "10.0.0.3:81"]
        assert bench.cluster.last_error == "there is no name two"
        client.records = []
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.9:80", "10.0.0.3:81"]
        assert bench.cluster.last_error == "_http._tcp.app has no SRV records"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.1.2.3", ("10.1.2.3",)),
        ("fd00::1", ("fd00::1",)),
        ("App.Example.com", ("10.0.0.7", "fd00::7")),
        ("alias.", ("10.0.0.7",)),
        ("localhost", ("127.0.0.1", "::1")),
        ("x.localhost", ("127.0.0.1", "::1")),
    ],
)
async def test_what_needs_no_server(tmp_path: Path, host: str, expected: tuple[str, ...]) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# names\n10.0.0.7 app.example.com alias # app\nfd00::7\tAPP.example.com\n\n10.0.0.8\n")
    client = DnsClient([Address("127.0.0.1", 1)], hosts_file=str(hosts))
    await client.look_up([host])
    assert client.addresses(host).hosts == expected
    assert client._resolver is None


@pytest.mark.parametrize("library", ["dns.exception", "dns.resolver", "dns.asyncresolver"])
async def test_dnspython_that_cannot_be_loaded_is_an_answer_that_failed(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """As it is when descriptors have run out; with the next question it is tried again."""
    monkeypatch.setitem(sys.modules, library, None)
    client = DnsClient([Address("127.0.0.1", 1)], hosts_file="/dev/null")
    await client.look_up(["app.example"])
    with pytest.raises(DnsError, match=r"^app\.example: .*dns"):
        client.addresses("app.example")
    monkeypatch.undo()
    assert client._configured().lifetime > 0


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".invalid", "no-such-name.invalid"])
def test_a_name_that_cannot_be_resolved_is_an_error_of_the_system(host: str) -> None:
    """Not one of the codec `idna`, which would have to be loaded first."""
    code = f"""
import asyncio, sys, uvloop
from meshlet.config.units import Address
from meshlet.upstream.resolver import resolve
async def ask():
    await resolve(Address({host!r}, 80))
for run in (asyncio.run, uvloop.run):
    try:
        run(ask())
    except OSError:
        print("OSError", "encodings.idna" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "OSError False\n" * 2


# --- files ---


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints:\n  - 10.0.0.1:80\n  - {address: '[fd00::1]:80', weight: 3, zone: a, priority: 1}\n")
    one, other = read_endpoints(str(path))
    assert (str(one.address), one.weight) == ("10.0.0.1:80", 1)
    assert (str(other.address), other.weight, other.zone, other.priority) == ("[fd00::1]:80", 3, "a", 1)
    path.write_text('{"endpoints": ["unix:/run/app"]}')
    assert [str(each.address) for each in read_endpoints(str(path))] == ["unix:/run/app"]
    path.write_text("endpoints: []\n")
    assert read_endpoints(str(path)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"endpoints:\n  - 10.0.0.1\n", ":2: endpoints[0]: found '10.0.0.1', expected an address HOST:PORT"),
        (b"endpoints:\n  - {adress: 'a:80'}\n", 'did you mean "address"?'),
        (b"endpoints:\n  - {address: 'a:80', weight: 0}\n", ":2: endpoints[0].weight: found 0"),
        (b"endpoint: []\n", ":1: endpoint: found the unknown key 'endpoint'"),
        (b"endpoints: [\n", ": (top level): found a YAML error"),
        (b"endpoints: []\n\xff", ":2: (top level): found the byte 0xff, expected text in UTF-8"),
        (b"- a:80\n", "expected a mapping with endpoints"),
        (b"endpoints:\n  " + b"[" * 100_000, ":2: (top level): found more than 50 levels of nesting, expected fewer"),
        (b" " * (4 * 1024 * 1024 + 1), "found more than 4 MiB"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_endpoints(str(path))
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="a regular file"):
        read_endpoints(str(path))


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def watching(path: Path, **details: Any) -> Bench:
    return Bench(discovery={"file": str(path)}, **details)


def test_a_file_that_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: [10.0.0.1:80]")
    with watching(path) as bench:
        bench.cluster.start()
        bench.loop.run()
        assert addresses(bench) == ["10.0.0.1:80"]
        _replace(path, "endpoints: [10.0.0.1:80, 10.0.0.2:80]")
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.1:80", "10.0.0.2:80"]
        _replace(path, "endpoints: [10.0.0.1]")
        bench.loop.advance(5)
        assert len(addresses(bench)) == 2
        assert bench.cluster.last_error == (
            f"{path}:1: endpoints[0]: found '10.0.0.1', expected an address HOST:PORT, [IPV6]:PORT or unix:/PATH"
        )
        path.unlink()
        bench.loop.advance(5)
        assert len(addresses(bench)) == 2
        assert "no such file" in (bench.cluster.last_error or "")
        _replace(path, "endpoints: [10.0.0.3:80]")
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.3:80"]
        assert not bench.cluster.last_error
    assert len(caplog.messages) == 2  # one for each thing that was wrong


def test_a_file_that_is_written_in_place_is_read_once_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: [10.0.0.1:80]")
    with watching(path) as bench:
        bench.cluster.start()
        bench.loop.run()
        path.write_text("endpoints: [10.0.0.2:80]      ")
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.1:80"]
        path.write_text("endpoints: [10.0.0.2:80, 10.0.0.3:80]")
        bench.loop.advance(1)
        assert addresses(bench) == ["10.0.0.1:80"]
        bench.loop.advance(1)
        assert addresses(bench) == ["10.0.0.2:80", "10.0.0.3:80"]


def test_a_mounted_config_map(tmp_path: Path) -> None:
    """The file is a symlink through a symlinked folder, which is swapped."""
    for name, host in (("one", "10.0.0.1"), ("two", "10.0.0.2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "endpoints.yaml").write_text(f"endpoints: [{host}:80]")
    data = tmp_path / "..data"
    data.symlink_to("one")
    path = tmp_path / "endpoints.yaml"
    path.symlink_to("..data/endpoints.yaml")
    with watching(path) as bench:
        bench.cluster.start()
        bench.loop.run()
        (tmp_path / "swap").symlink_to("two")
        (tmp_path / "swap").replace(data)
        bench.loop.advance(1.1)
        assert addresses(bench) == ["10.0.0.2:80"]


def test_names_in_a_file(tmp_path: Path, resolver: Resolver) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: [a:80, 10.0.0.1:80]")
    with watching(path, dns_refresh="5s") as bench:
        bench.cluster.start()
        bench.loop.run()
        assert addresses(bench) == ["10.0.0.1:80"]
        assert bench.cluster.last_error == "cannot resolve a: name or service not known"
        resolver.known["a"] = ("10.0.0.2",)
        bench.loop.advance(6)
        assert addresses(bench) == ["10.0.0.2:80", "10.0.0.1:80"]
        assert bench.cluster.last_error is None


async def test_a_file_is_read_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three thousand endpoints take a tenth of a second."""
    threads: list[threading.Thread] = []

    def read(path: str) -> list[EndpointConfig]:
        threads.append(threading.current_thread())
        return read_endpoints(path)

    monkeypatch.setattr(file, "read_endpoints", read)
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: [10.0.0.1:80]")
    found: asyncio.Queue[list[str]] = asyncio.Queue()

    def update(endpoints: Sequence[Found] | None, error: str | None = None) -> None:
        found.put_nowait([str(each.config.address) for each in endpoints or ()])

    task = asyncio.create_task(file.File(str(path), 5).run(update))
    async with asyncio.timeout(5):
        assert await found.get() == ["10.0.0.1:80"]
        _replace(path, "endpoints: [10.0.0.2:80]")
        assert await found.get() == ["10.0.0.2:80"]
    task.cancel()
    assert len(threads) == 2
    assert threading.main_thread() not in threads
    assert all(thread.daemon for thread in threads)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ENOMEM])
def test_a_file_that_the_machine_could_not_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Though nobody changes it."""
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: [10.0.0.1:80]")
    with watching(path) as bench:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", mock.Mock(side_effect=OSError(number, os.strerror(number))))
            bench.cluster.start()
            bench.loop.run()
            assert os.strerror(number) in (bench.cluster.last_error or "")
        bench.loop.advance(1.1)
        assert (addresses(bench), bench.cluster.last_error) == (["10.0.0.1:80"], None)


def test_a_file_is_read_again_once_there_is_a_thread_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: [10.0.0.1:80]")
    with watching(path) as bench:
        with monkeypatch.context() as patch:
            patch.setattr(file, "in_thread", mock.AsyncMock(side_effect=OSError(errno.EAGAIN, "no thread")))
            bench.cluster.start()
            bench.loop.run()
            assert "no thread" in (bench.cluster.last_error or "")
        bench.loop.advance(1.1)
        assert (addresses(bench), bench.cluster.last_error) == (["10.0.0.1:80"], None)


async def test_a_hosts_file_is_not_waited_for(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    os.mkfifo(hosts)
    client = DnsClient([Address("127.0.0.1", 1)], hosts_file=str(hosts))
    await client.look_up(["localhost"])
    assert client.addresses("localhost").hosts == ("127.0.0.1", "::1")
    hosts.unlink()
    hosts.write_bytes(b"# caf\xe9\n10.0.0.7 app\n")
    await client.look_up(["app"])
    assert client.addresses("app").hosts == ("10.0.0.7",)


def test_looking_ends_with_the_cluster(tmp_path: Path) -> None:
    with watching(tmp_path / "none") as bench:
        bench.cluster.start()
        bench.loop.run()
        task = bench.cluster._discovering
        assert isinstance(task, asyncio.Task)
        bench.cluster.close()
        bench.loop.run()
        assert task.cancelled()
