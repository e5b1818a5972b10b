"""Health checks: what decides, and what counts as an answer."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.config.schema import HealthCheck
from meshlet.upstream.health import Judge
from tests.support.fakes import Peer
from tests.unit.upstream.support import Bench, config

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("initially", "checks", "states"),
    [
        # . good, x bad; + healthy, - unhealthy afterwards
        ("unhealthy", ".", "+"),
        ("unhealthy", "x", "-"),
        ("unhealthy", "x..", "--+"),
        ("unhealthy", "x.x..", "----+"),
        ("unhealthy", ".xx.xxx..", "++++++--+"),
        ("healthy", ".", "+"),
        ("healthy", "xxx", "++-"),
        ("healthy", "xx.xxx.x..", "+++++----+"),
    ],
)
def test_thresholds(initially: Any, checks: str, states: str) -> None:
    judge = Judge(HealthCheck(initially=initially, unhealthy_threshold=3, healthy_threshold=2))
    assert "".join("-+"[judge.judge(well=check == ".")] for check in checks) == states


class Ward(Bench):
    """Endpoints that answer checks as a test says."""

    def __init__(self, *written: object, **check: Any) -> None:
        check = {"interval": "10s", "jitter": 0, **check}
        endpoints = written or ("10.0.0.1:80",)
        super().__init__(*endpoints, health_check=check, panic_threshold=0)
        self.loop.dial = self._dial
        self.answer: bytes | OSError | None = b"HTTP/1.1 200 OK\r\n\r\n"  # None: none
        self.dialled: list[str] = []
        self.peers: list[Peer] = []

    async def _dial(self, factory: Callable[[], asyncio.BaseProtocol], address: str) -> object:
        self.dialled.append(address)
        if isinstance(self.answer, OSError):
            raise self.answer
        peer = Peer(self.loop, address)
        self.peers.append(peer)
        made = await peer.connect(factory)
        if self.answer is not None:
            peer.put(self.answer)
        return made

    def check(self, answer: bytes | OSError | None) -> str | None:
        """Start with this answer; return what is wrong then."""
        self.answer = answer
        with self:
            self.cluster.start()
            self.loop.run()
            self.loop.advance(2)
            endpoint = self[0]
            assert endpoint.healthy == (endpoint.health_error is None)
            assert (endpoint.checks_total, endpoint.check_failures_total) == (1, int(not endpoint.healthy))
            return endpoint.health_error


def test_the_request() -> None:
    ward = Ward(path="/healthz", host="shop.example.com")
    assert ward.check(b"HTTP/1.1 200 OK\r\n\r\n") is None
    assert ward.peers[0].received == (
        b"GET /healthz HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: meshlet-health\r\nConnection: close\r\n\r\n"
    )
    assert ward.peers[0].closed


def test_the_cluster_is_the_host_unless_given() -> None:
    ward = Ward(path="/")
    ward.check(b"HTTP/1.1 200 OK\r\n\r\n")
    assert b"\r\nHost: app\r\n" in ward.peers[0].received


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", None),
        (b"HTTP/1.0 200\r\n\r\n", None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "status 503"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "status 100"),
        (b"HTTP/2 200 OK\r\n\r\n", "an answer that is not HTTP/1"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "an answer that is not HTTP/1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "an answer that is not HTTP/1"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "an answer that is not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20000, "a response head of more than 65536 bytes"),
        (b"", "the connection was closed without an answer"),
        (None, "no answer within 1 s"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "connect to 10.0.0.1:80: connection refused",
        ),
    ],
)
def test_answers(answer: bytes | OSError | None, error: str | None) -> None:
    assert Ward(path="/").check(answer) == error


def test_other_statuses_may_be_healthy() -> None:
    assert Ward(path="/", statuses=[204, 401]).check(b"HTTP/1.1 401 No\r\n\r\n") is None


def test_connecting_is_enough_without_a_path() -> None:
    ward = Ward()
    assert ward.check(None) is None
    assert ward.peers[0].received == b""
    assert ward.peers[0].closed
    assert Ward().check(OSError(errno.EHOSTUNREACH, "No route to host")) == "connect to 10.0.0.1:80: no route to host"


def test_another_port() -> None:
    ward = Ward("[fd00::1]:80", port=8081)
    ward.check(b"")
    assert ward.dialled == ["fd00::1:8081"]
    ward = Ward("unix:/run/app", port=8081)
    ward.check(b"")
    assert ward.dialled == ["unix:/run/app"]


def test_interval_and_jitter() -> None:
    with Ward() as ward:
        ward.cluster.start()
        ward.loop.advance(41)
        assert len(ward.dialled) == 5
    with Ward(jitter=100) as ward:
        assert ward.cluster._checker is not None
        ward.cluster._checker._random = lambda: 0.5
        ward.cluster.start()
        ward.loop.advance(41)
        assert len(ward.dialled) == 3


def test_an_endpoint_falls_ill_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="meshlet.upstream")
    with Ward("10.0.0.1:80", path="/", unhealthy_threshold=2) as ward:
        cluster = ward.cluster
        assert not cluster.has_other([])
        cluster.start()
        ward.loop.run()
        assert cluster.pick() is ward[0]
        ward.answer = b"HTTP/1.1 500 No\r\n\r\n"
        ward.loop.advance(11)
        assert cluster.has_other([])
        ward.loop.advance(20)
        assert not cluster.has_other([])
        ward.answer = b"HTTP/1.1 200 OK\r\n\r\n"
        ward.loop.advance(20)
        assert cluster.pick() is ward[0]
    assert caplog.messages == [
        "cluster app: endpoint 10.0.0.1:80 is healthy",
        "cluster app: endpoint 10.0.0.1:80 is unhealthy: status 500",
        "cluster app: endpoint 10.0.0.1:80 is healthy",
    ]


def test_who_comes_is_checked_and_who_leaves_is_not() -> None:
    with Ward("10.0.0.1:80") as ward:
        ward.cluster.start()
        ward.finds(config("10.0.0.2:80"))
        ward.loop.advance(25)
        assert ward.dialled == ["10.0.0.2:80"] * 3
        ward.cluster.close()
        ward.loop.advance(25)
        assert len(ward.dialled) == 3


def test_a_check_under_way_ends_with_its_endpoint() -> None:
    with Ward("10.0.0.1:80", path="/") as ward:
        ward.answer = None
        ward.cluster.start()
        ward.loop.run()
        assert not ward.peers[0].closed
        ward.finds(config("10.0.0.2:80"))
        ward.loop.run()
        assert ward.peers[0].closed


def test_healthy_and_not_ejected() -> None:
    with Bench("10.0.0.1:80", "10.0.0.2:80", health_check={}, outlier_detection={"consecutive_5xx": 1}) as bench:
        one = bench[0]
        assert repr(one) == "<Endpoint 10.0.0.1:80 unhealthy active=0>"
        one.healthy = True
        assert repr(one) == "<Endpoint 10.0.0.1:80 available active=0>"
        assert one.watch is not None
        one.watch.responded(500, 0.1)
        assert repr(one) == "<Endpoint 10.0.0.1:80 ejected active=0>"
