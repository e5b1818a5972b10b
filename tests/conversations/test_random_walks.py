"""Whatever clients and apps do in whatever order: no request is executed twice that must not be, and nothing stays."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.conversations.world import FIRST, App, Client, World
from tests.support.wire import chunk, head, messages

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = "10.0.1.2:8080"
SHADOW = "10.0.9.1:80"
ALL = ["connect-failure", "refused", "reset", "5xx", "gateway-error"]
ATTEMPTS = 3
ROUTES: dict[str, dict[str, Any]] = {
    "default": {},
    "retry": {"retry": {"on": ALL, "attempts": ATTEMPTS, "per_try_timeout": "1s"}, "timeout": "3s"},
    "hedge": {"hedge": {"after": "50ms"}, "timeout": "2s"},
    "both": {
        "retry": {"on": ALL, "attempts": ATTEMPTS, "max_retry_after": "1s", "max_body": 5},
        "hedge": {"after": "50ms"},
        "attempt_count": True,
    },
    "mirror": {"retry": {"on": ALL, "attempts": ATTEMPTS}, "mirror": {"cluster": "shadow"}, "idle_timeout": "2s"},
    "filters": {
        "retry": {"on": ALL, "attempts": ATTEMPTS},
        "hedge": {"after": "50ms"},
        "filters": [{"python": "tests.conversations.own_filters:Shouts"}, {"buffer": {"max_bytes": 1000}}],
        "idle_timeout": "2s",
    },
    "delayed": {
        "retry": {"on": ALL, "attempts": ATTEMPTS},
        "fault": {"delay": {"duration": "100ms"}},
        "mirror": {"cluster": "shadow"},
    },
}
#: first tries, those of the policy, one for a stale connection, one beside the first
MOST = 1 + ATTEMPTS + 1 + 1

ANSWERS = [
    head("HTTP/1.1 200 OK", "Content-Length: 2") + b"ok",
    head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n",
    head("HTTP/1.1 503 No", "Content-Length: 0"),
    head("HTTP/1.1 503 No", "Content-Length: 0"),
    head("HTTP/1.1 503 No", "Content-Length: 2", "Retry-After: 1") + b"no",
    head("HTTP/1.1 502 No", "Content-Length: 0", "Connection: close"),
    head("HTTP/1.1 100 Continue"),
    head("HTTP/1.1 103 Early Hints"),
    head("HTTP/1.1 503 No", "Content-Length: 9"),
    b"HTTP/1.1 2",
    b"nonsense\r\n\r\n",
]


class Walk:
    """One world, and random steps in it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.clients: list[Client] = []
        self.bodies: dict[Client, list[bytes]] = {}  # what is still to be sent of a request
        self.paths: dict[Client, list[tuple[str, str]]] = {}
        self.sent: dict[str, int] = {}  # how often each path had been asked for when its answer began
        self.wholes: dict[str, tuple[bytes, bytes]] = {}  # the body and the trailers of each request
        self.asked = 0

    def step(self) -> None:
        choice = self.random.choices(
            [self.ask, self.go_on, self.leave, self.answer, self.break_off, self.wait, self.reachable],
            [6, 5, 1, 8, 3, 6, 2],
        )[0]
        choice()
        self.check()

    def ask(self) -> None:
        free = [client for client in self.clients if not self.bodies[client] and not client.gone and not client.ended]
        if not free or self.random.random() < 0.3:
            client = self.world.client()
            self.clients.append(client)
            self.paths[client] = []
        else:
            client = self.random.choice(free)
        method = self.random.choice(["GET", "PUT", "POST", "POST"])
        path = f"/{self.asked}."
        self.asked += 1
        self.paths[client].append((method, path))
        if method == "GET":
            self.bodies[client] = []
            self.wholes[path] = (b"", b"")
            client.sends(head(f"GET {path} HTTP/1.1", "Host: a"))
        else:
            pieces = [chunk(b"abc") for _ in range(self.random.randrange(3))]
            trailers = head("X-Sum: 1") if self.random.random() < 0.3 else b""
            self.wholes[path] = (b"abc" * len(pieces), trailers)
            pieces.append(b"0\r\n" + (trailers or b"\r\n"))
            top = head(f"{method} {path} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
            whole = self.random.random() < 0.5
            self.bodies[client] = [] if whole else pieces
            client.sends(top + b"".join(pieces if whole else ()))

    def go_on(self) -> None:
        for client in self.clients:
            if self.bodies[client] and not client.gone:
                client.sends(self.bodies[client].pop(0))
                return

    def leave(self) -> None:
        client = self._any([client for client in self.clients if not client.gone])
        if client is not None:
            self.random.choice([client.resets, client.closes, client.ends])()

    def answer(self) -> None:
        app = self._any([app for app in self.world.apps if not app.gone and not app.closed and app.received])
        if app is not None:
            app.sends(self.random.choice(ANSWERS))

    def break_off(self) -> None:
        app = self._any([app for app in self.world.apps if not app.gone and not app.closed])
        if app is not None:
            self.random.choice([app.resets, app.closes])()

    def wait(self) -> None:
        self.world.passes(self.random.choice([0.001, 0.03, 0.06, 0.3, 1.2]))

    def reachable(self) -> None:
        address = self.random.choice([FIRST, SECOND, SHADOW])
        if address in self.world.unreachable:
            self.world.let_in(address)
        else:
            self.random.choice([self.world.refuse, self.world.hold])(address)

    def _any(self, sides: list[Any]) -> Any:
        return self.random.choice(sides) if sides else None

    # --- what must hold ---

    def _count(self, path: str, apps: Callable[[App], bool]) -> int:
        return sum(app.received.count(f" {path} HTTP".encode()) for app in self.world.apps if apps(app))

    def check(self) -> None:
        self.world.check()
        for app in self.world.apps:
            # Each connection has carried whole requests, as they were sent, and perhaps the beginning of one more.
            for message in messages(app.received):
                if message.head.endswith(b"\r\n\r\n"):
                    body, trailers = self.wholes[message.start.split(" ")[1]]
                    came = message.body.lower()
                    assert came == body if message.complete else body.startswith(came), message
                    assert not message.complete or message.trailers == trailers, message
        for client, paths in self.paths.items():
            stream = client.received
            began = 0
            for message in messages(stream):
                if message.head.endswith(b"\r\n\r\n") and message.status >= 200:
                    began += 1
            assert began <= len(paths)
            for number, (method, path) in enumerate(paths):
                times = self._count(path, lambda app: app.address != SHADOW)
                assert times <= (1 if method == "POST" else MOST), (method, path, times)
                assert self._count(path, lambda app: app.address == SHADOW) <= 1
                if number < began:
                    assert self.sent.setdefault(path, times) == times, f"{path} was sent again after its answer began"


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("limit", [100, 2])
def test_walks(name: str, limit: int) -> None:
    limits = {"circuit_breaker": {"max_connections": limit, "max_pending": 3}}
    for seed in range(40):
        random.seed(seed)  # what clusters choose by
        world = World(
            routes=[{"cluster": "app", **ROUTES[name]}],
            cluster={"endpoints": [FIRST, SECOND], **limits},
            clusters=[{"name": "shadow", "endpoints": [SHADOW], **limits}],
        )
        world.__enter__()
        try:
            walk = Walk(world, seed)
            world.chance = walk.random.choice([0.0, 0.1, 0.9])
            for _ in range(60):
                walk.step()
            world.expire()
            walk.check()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            world.__exit__(Exception, None, None)
