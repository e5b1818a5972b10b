"""WebSocket and other upgrades, and CONNECT."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from tests.support.processes import Meshlet, config_of, meshlet, until
from tests.support.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

MB = 1_000_000


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Echoes frames; closes when it is told to, with the code that it is told."""
    websocket = web.WebSocketResponse(max_msg_size=0, protocols=("chat",), compress=True)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is WSMsgType.TEXT and message.data.startswith("close "):
            await websocket.close(code=int(message.data.removeprefix("close ")))
        elif message.type is WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


@pytest.fixture
async def app() -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/echo", echo)
    async with TestServer(application) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(params=["auto", "http"])
async def proxy(request: pytest.FixtureRequest, app: str, tmp_path: Path) -> AsyncIterator[Meshlet]:
    with meshlet(tmp_path, config_of(app, listener={"protocol": request.param})) as process:
        yield process
        # The app lives in this loop, and has to say its part of the end.
        await asyncio.to_thread(process.stop)


async def test_websocket(proxy: Meshlet) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://{proxy.address}/echo", protocols=("chat",), compress=15, max_msg_size=0
        ) as websocket,
    ):
        assert websocket.protocol == "chat"
        for text in ("hello", "ä" * 1000, ""):
            await websocket.send_str(text)
            assert await websocket.receive_str(timeout=10) == text


async def test_large_frames(proxy: Meshlet) -> None:
    frames = [os.urandom(size) for size in (1, 125, 126, 65535, 65536, MB, 20 * MB)]
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{proxy.address}/echo", max_msg_size=0) as websocket,
    ):
        for frame in frames:
            await websocket.send_bytes(frame)
            assert await websocket.receive_bytes(timeout=30) == frame


async def test_ping(proxy: Meshlet) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{proxy.address}/echo", autoping=False) as websocket,
    ):
        await websocket.ping(b"are you there")
        message = await websocket.receive(timeout=10)
        assert (message.type, message.data) == (WSMsgType.PONG, b"are you there")


async def test_the_app_closes(proxy: Meshlet) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{proxy.address}/echo") as websocket,
    ):
        await websocket.send_str("close 4001")
        assert (await websocket.receive(timeout=10)).type is WSMsgType.CLOSE
        assert websocket.close_code == 4001


async def test_many_at_once_and_all_are_counted(proxy: Meshlet) -> None:
    async with aiohttp.ClientSession() as session:
        websockets = [await session.ws_connect(f"http://{proxy.address}/echo") for _ in range(20)]
        for number, websocket in enumerate(websockets):
            await websocket.send_str(str(number))
        for number, websocket in enumerate(websockets):
            assert await websocket.receive_str(timeout=10) == str(number)
        assert proxy.metric("meshlet_requests_active") == 20
        for websocket in websockets:
            await websocket.close()
    await asyncio.to_thread(until, lambda: proxy.metric("meshlet_requests_active") == 0)
    assert proxy.metric("meshlet_requests_total", response_code="101") == 20


# --- with bytes of our own ---


def tunnel_app(sock: socket.socket) -> None:
    """Agrees to any upgrade and to CONNECT, then shouts back; some words come together with the head."""
    head = sock.recv(65536)
    if head.startswith(b"CONNECT"):
        sock.sendall(b"HTTP/1.1 200 OK\r\nX-Tunnel: 1\r\n\r\nWELCOME ")
    elif b"\r\nupgrade: " in head.lower():
        protocol = head.lower().partition(b"\r\nupgrade: ")[2].partition(b"\r\n")[0]
        sock.sendall(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: " + protocol + b"\r\n\r\nWELCOME ")
    else:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        return
    while data := sock.recv(65536):
        sock.sendall(data.upper())


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[Meshlet]:
    routes = [{"cluster": "app", "connect": True, "upgrades": ["websocket", "shout"]}]
    with Server(tunnel_app) as app, meshlet(tmp_path, config_of(app.address, listener={"routes": routes})) as process:
        yield process


UPGRADE = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
CONNECT = b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"), [(UPGRADE % b"shout", 101), (CONNECT, 200)], ids=["upgrade", "connect"]
)
def test_tunnel(tunnels: Meshlet, request_: bytes, status: int) -> None:
    """Bytes that come with the head, on either side, belong to the tunnel; half-close goes through."""
    with tunnels.client() as client:
        client.send(request_ + b"early ")
        assert client.head().startswith(f"HTTP/1.1 {status} ")
        assert client.read(14) == b"WELCOME EARLY "
        client.send(b"late")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b"LATE"
    until(lambda: tunnels.metric("meshlet_requests_total", response_code=str(status)) == 1)
    assert tunnels.metric("meshlet_endpoint_connections") == 0


def test_upgrade_that_no_route_allows(tunnels: Meshlet) -> None:
    """The app is asked without it, and answers as if nobody had asked."""
    with tunnels.client() as client:
        client.send(UPGRADE % b"h2c")
        response = client.response()
        assert (response.status, response.text) == (200, "no")


def test_connect_that_no_route_allows(tmp_path: Path) -> None:
    with Server(tunnel_app) as app, meshlet(tmp_path, config_of(app.address)) as process, process.client() as client:
        client.send(CONNECT)
        assert client.response("CONNECT").status == 405


def test_client_leaves_its_tunnel(tunnels: Meshlet) -> None:
    with tunnels.client() as client:
        client.send(CONNECT)
        assert client.head().startswith("HTTP/1.1 200 ")
        assert client.read(8) == b"WELCOME "
    until(lambda: tunnels.metric("meshlet_requests_active") == 0)
    assert tunnels.metric("meshlet_endpoint_connections") == 0
