"""Whatever order reads, writes, silences and departures come in: nothing raises, nobody is left behind, nobody gets
another one's answer, and what was cut short never looks whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conversations.world import App, Client, World
from tests.support.wire import chunked, head, messages

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS = ("GET", "GET", "GET", "POST", "POST", "PUT chunked", "HEAD", "GET 1.0", "GET close", "nowhere", "malformed")
_FRAMINGS = ("length", "chunked", "trailers", "until close", "empty", "close")
_SIZES = (0, 1, 30, 3000, 150_000)


class Script:
    """What is asked and answered in one run: request number `n` has a kind, a framing and sizes, all by its number."""

    def __init__(self, plan: list[tuple[str, str, int, int]]) -> None:
        self.plan = plan

    def request(self, number: int) -> bytes:
        kind, _, size, _ = self.plan[number]
        body = self.request_body(number)
        match kind:
            case "POST":
                return head(f"POST /{number} HTTP/1.1", "Host: a", f"Content-Length: {size}") + body
            case "PUT chunked":
                pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
                return head(f"PUT /{number} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked") + chunked(*pieces)
            case "GET 1.0":
                return head(f"GET /{number} HTTP/1.0", "Host: a")
            case "GET close":
                return head(f"GET /{number} HTTP/1.1", "Host: a", "Connection: close")
            case "nowhere":
                return head(f"GET /{number} HTTP/1.1", "Host: nowhere")
            case "malformed":
                return head(f"GET /{number} HTTP/1.1", "Host : a")
            case method:
                return head(f"{method} /{number} HTTP/1.1", "Host: a")

    def request_body(self, number: int) -> bytes:
        kind, _, size, _ = self.plan[number]
        return b"%d," % number * size if kind == "PUT chunked" else (b"%d," % number * size)[:size]

    def response_body(self, number: int) -> bytes:
        kind, framing, _, size = self.plan[number]
        return b"" if framing == "empty" or kind == "HEAD" else b"<%d>" % number * size

    def response(self, number: int) -> bytes:
        kind, framing, _, _ = self.plan[number]
        if kind == "HEAD":
            return head("HTTP/1.1 200 OK", f"X-For: {number}", "Content-Length: 5")
        body = self.response_body(number)
        match framing:
            case "length":
                return head("HTTP/1.1 200 OK", f"X-For: {number}", f"Content-Length: {len(body)}") + body
            case "close":
                fields = (f"X-For: {number}", f"Content-Length: {len(body)}", "Connection: close")
                return head("HTTP/1.1 200 OK", *fields) + body
            case "until close":
                return head("HTTP/1.1 200 OK", f"X-For: {number}") + body
            case "empty":
                return head("HTTP/1.1 204 No Content", f"X-For: {number}")
            case _:
                trailers = ("X-Sum: 1",) if framing == "trailers" else ()
                pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
                top = head("HTTP/1.1 200 OK", f"X-For: {number}", "Transfer-Encoding: chunked")
                return top + chunked(*pieces, trailers=trailers)


class Play:
    """Clients and apps that act a step at a time, each keeping to the protocol until it leaves."""

    def __init__(self, world: World, script: Script) -> None:
        self.world = world
        self.script = script
        self.asked: dict[Client, list[int]] = {}
        self.unsent: dict[Client, bytes] = {}
        self.answered: dict[App, int] = {}
        self.unanswered: dict[App, bytes] = {}
        self.answering: dict[App, int] = {}
        self.maybe_whole: set[int] = set()  # answers until close whose app left in the middle of them
        self.next = 0

    # --- clients ---

    def connect(self, _: int) -> None:
        client = self.world.client()
        self.asked[client] = []
        self.unsent[client] = b""

    def _client(self, which: int) -> Client | None:
        clients = list(self.asked)
        return clients[which % len(clients)] if clients else None

    def ask(self, which: int) -> None:
        client = self._client(which)
        if client is not None and self.next < len(self.script.plan):
            self.asked[client].append(self.next)
            self.unsent[client] += self.script.request(self.next)
            self.next += 1

    def send(self, which: int) -> None:
        client = self._client(which)
        if client is not None and not client.gone and self.unsent[client] and b"" not in client.unread:
            count = (10**9, 10**9, 1, 17, 1000)[which % 5]
            data, self.unsent[client] = self.unsent[client][:count], self.unsent[client][count:]
            client.put(data)

    def client_does(self, what: str) -> Callable[[int], None]:
        def act(which: int) -> None:
            client = self._client(which)
            if client is not None and not client.gone:
                getattr(client, what)()
                if what == "end":
                    self.unsent[client] = b""

        return act

    # --- apps ---

    def _app(self, which: int) -> App | None:
        apps = [app for app in self.world.apps if not app.closed]
        return apps[which % len(apps)] if apps else None

    def answer(self, which: int) -> None:
        """Answer a bit more of what was asked; maybe before it was asked to the end."""
        app = self._app(which)
        if app is None or app.gone:
            return
        if not self.unanswered.get(app):
            asked = messages(app.received)
            done = self.answered.get(app, 0)
            if len(asked) <= done or not asked[done].head.endswith(b"\r\n\r\n"):
                return
            self.answered[app] = done + 1
            self.answering[app] = number = _number(asked[done].head)
            self.unanswered[app] = self.script.response(number)
        count = (10**9, 10**9, 150, 1, 1000)[which % 5]
        data, self.unanswered[app] = self.unanswered[app][:count], self.unanswered[app][count:]
        app.put(data)
        kind, framing, _, _ = self.script.plan[self.answering[app]]
        if not self.unanswered[app] and framing in ("until close", "close") and kind != "HEAD":
            app.close()

    def app_does(self, what: str) -> Callable[[int], None]:
        def act(which: int) -> None:
            app = self._app(which)
            if app is not None and not app.gone:
                if what in ("end", "close") and self.unanswered.get(app):
                    number = self.answering[app]
                    if self.script.plan[number][1] == "until close":
                        self.maybe_whole.add(number)
                if what in ("end", "close", "kill"):
                    self.unanswered[app] = b""
                    self.answered[app] = 10**9
                getattr(app, what)()

        return act

    # --- the rest ---

    def time(self, which: int) -> None:
        self.world.passes((0.05, 0.3, 1.0, 16.0)[which % 4])

    def refuse(self, _: int) -> None:
        self.world.refuse()

    def accept(self, _: int) -> None:
        self.world.unreachable.clear()

    # --- what must hold ---

    def check(self) -> None:
        for client, asked in self.asked.items():
            self._check_answers(client, asked)
        whole: dict[int, int] = {}
        for app in self.world.apps:
            for message in messages(app.received):
                if message.complete:
                    number = _number(message.head)
                    assert message.body == self.script.request_body(number) or message.start.startswith(("GET", "HEAD"))
                    whole[number] = whole.get(number, 0) + 1
        for number, times in whole.items():
            kind = self.script.plan[number][0]
            assert kind not in ("nowhere", "malformed")
            assert times <= (1 if kind == "POST" else 2)

    def _check_answers(self, client: Client, asked: list[int]) -> None:
        bodyless = tuple(at for at, number in enumerate(asked) if self.script.plan[number][0] == "HEAD")
        # Apps send no interim responses here, so these are our probes.
        stream = client.received.replace(head("HTTP/1.1 100 Continue"), b"")
        answers = [message for message in messages(stream, bodyless=bodyless) if message.head.endswith(b"\r\n\r\n")]
        for message, number in zip(answers, asked, strict=False):
            whose = message.field("x-for")
            assert whose is None or int(whose) == number, "an answer to somebody else's question"
            body = self.script.response_body(number)
            if whose is None or number in self.maybe_whole:
                continue
            if message.until_close:
                assert client.state != "closed" or client.gone or message.body == body
            elif message.complete:
                assert message.body == body
            else:
                assert client.state != "closed" or client.gone, "cut short and closed as if it were whole"


def _number(top: bytes) -> int:
    return int(top.split(b" ")[1][1:])


# As often as it takes for most runs to have a few whole exchanges, and a few that are disturbed.
_ACTIONS = (
    *("ask",) * 6, *("send",) * 12, *("answer",) * 16, "connect", "time", "refuse", "accept", "accept",
    "client stall", "client read", "client end", "client close", "client kill",
    "app stall", "app read", "app end", "app close", "app kill",
)  # fmt: skip
_plans = st.lists(
    st.tuples(
        st.sampled_from(_KINDS), st.sampled_from(_FRAMINGS), st.sampled_from(_SIZES), st.sampled_from(_SIZES[:4])
    ),
    min_size=3,
    max_size=8,
)
# An action, who or how much it is about, and whether it comes together with the next one.
_steps = st.lists(st.tuples(st.sampled_from(_ACTIONS), st.integers(0, 15), st.booleans()), min_size=20, max_size=80)
_ROUTES = [{"cluster": "app", "match": {"host": "a"}}]


@pytest.mark.parametrize("connections", [1, 100])
@settings(max_examples=400, deadline=None)
@given(plan=_plans, steps=_steps)
def test_http(plan: list[tuple[str, str, int, int]], steps: list[tuple[str, int, bool]], connections: int) -> None:
    cluster = {"circuit_breaker": {"max_connections": connections, "max_pending": 3}}
    world = World(cluster=cluster, routes=_ROUTES)
    with _Quietly(world):
        play = Play(world, Script(plan))
        play.connect(0)
        play.ask(0)
        for name, which, together in steps:
            world._held = together and name not in ("time", "connect")
            who, _, what = name.partition(" ")
            if what:
                (play.client_does if who == "client" else play.app_does)(what)(which)
            else:
                getattr(play, name)(which)
            world.rest()
        world._held = False
        world.rest()
        world.check()
        play.check()
        for side in (*world.clients, *world.apps):
            side.read()
        world.expire()
        play.check()


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(("put", "put", "put", "end", "close", "kill", "stall", "read", "rest", "rest", "time")),
            st.booleans(),
            st.sampled_from((1, 1000, 70_000)),
        ),
        max_size=40,
    ),
    protocol=st.sampled_from(("tcp", "auto")),
)
def test_tcp(steps: list[tuple[str, bool, int]], protocol: str) -> None:
    world = World(listener={"protocol": protocol, "cluster": "app"})
    with _Quietly(world):
        client = world.client()
        said: dict[type, bytes] = {Client: b"", App: b""}
        ended: set[type] = set()
        for name, from_client, size in steps:
            side = client if from_client else world.apps[-1] if world.apps else None
            if name == "rest":
                world.rest()
            elif name == "time":
                world.passes(size / 1000)
            elif side is not None and not side.gone and not (name == "put" and type(side) in ended):
                if name == "put":
                    data = b"\0\1\2\3\4\5\6" * size  # never mistaken for HTTP
                    if not side.closed:
                        said[type(side)] += data
                    side.put(data)
                else:
                    getattr(side, name)()
                    if name in ("end", "close"):
                        ended.add(type(side))
        world.rest()
        for reader in (*world.clients, *world.apps):
            reader.read()
        world.rest()
        for reader in (client, *world.apps):
            other = App if reader is client else Client
            assert said[other].startswith(reader.received), "lost, repeated or out of order"
            if reader.state in ("closed", "half-closed") and not reader.gone and other in ended:
                assert reader.received == said[other], "cut short and ended as if it were whole"
        world.expire()


class _Quietly:
    """Enters a world whose peers receive what nobody names."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __enter__(self) -> None:
        self.world.__enter__()

    def __exit__(self, *error: object) -> None:
        self.world.__exit__(Exception, None, None)
