"""One server with two addresses: which is tried when, what is kept, what is left behind, and what is said."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Any, Self, cast
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.units import Address
from meshlet.errors import ConnectFailure
from meshlet.upstream.connect import connect
from meshlet.upstream.destination import Destination, Families
from tests.support.fakes import FakeLoop, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

V4, V6 = Address("10.0.0.1", 80), Address("fd00::1", 80)
NEVER = None
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 80)")
NO_ROUTE = OSError(errno.ENETUNREACH, "Network is unreachable")

Outcome = tuple[float, OSError | str] | None  # after so long, it is refused or accepted; or nothing ever happens


def accepted(after: float = 0.0) -> Outcome:
    return after, "accepted"


def refused(after: float = 0.0, error: OSError = REFUSED) -> Outcome:
    return after, error


class _Loop(FakeLoop):
    """Knows all tasks that there were."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[asyncio.Task[Any]] = []

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        self.tasks.append(super().create_task(coro, **options))
        return self.tasks[-1]


class _Socket:
    """What becomes of a socket."""

    def __init__(self, made: list[_Socket], family: int) -> None:
        self.family = family
        self.closed = False
        made.append(self)

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def close(self) -> None:
        self.closed = True


class Net:
    """What happens at each address, by the clock of a fake loop; entered, the loop is the running one."""

    def __init__(self, v4: Outcome, v6: Outcome) -> None:
        self.loop = _Loop()
        self.loop.dial, self.loop.reach, self.loop.adopt = self._dial, self._reach, self._adopt
        self.outcomes: dict[str, Outcome] = {"10.0.0.1:80": v4, "fd00::1:80": v6}
        self.began = self.loop.time()
        self.tried: list[tuple[str, float]] = []
        self.sockets: list[_Socket] = []
        self.peers: list[Peer] = []
        self.made = 0

    def __enter__(self) -> Self:
        asyncio.events._set_running_loop(cast("Any", self.loop))
        self._patch = mock.patch.object(socket, "socket", lambda family, *_: _Socket(self.sockets, family))
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run()
        self._patch.stop()
        asyncio.events._set_running_loop(None)
        assert all(task.done() for task in self.loop.tasks)
        assert all(sock.closed for sock in self.sockets)  # the winner's is a transport's, which the fake closes
        assert not self.loop.failures

    async def _reach(self, address: str) -> None:
        self.tried.append((address, round(self.loop.time() - self.began, 3)))
        outcome = self.outcomes[address]
        if outcome is None:
            await self.loop.create_future()
        else:
            if outcome[0]:
                await asyncio.sleep(outcome[0])
            if isinstance(outcome[1], OSError):
                raise outcome[1]

    async def _adopt(self, factory: Callable[[], asyncio.BaseProtocol], address: str) -> object:
        peer = Peer(self.loop, address)
        self.peers.append(peer)
        return await peer.connect(factory)

    async def _dial(self, factory: Callable[[], asyncio.BaseProtocol], address: str) -> object:
        await self._reach(address)
        return await self._adopt(factory, address)

    def _protocol(self) -> asyncio.Protocol:
        self.made += 1
        return asyncio.Protocol()

    def connects(self, destination: Destination, timeout: float = 5.0) -> str:
        """Return where a connection was made to, or what went wrong; and let `timeout` pass."""
        self.began = self.loop.time()
        self.tried.clear()
        self.peers.clear()
        task = self.loop.create_task(connect(destination, self._protocol, timeout))
        self.loop.run()
        self.loop.advance(timeout + 0.1)
        error = task.exception()
        if error is not None:
            assert isinstance(error, ConnectFailure)
            return str(error)
        (peer,) = self.peers
        assert not peer.closed
        return str(peer.name)

    @property
    def order(self) -> list[str]:
        return [address for address, _ in self.tried]


def dual(families: Families | None = None) -> Destination:
    return Destination(V4, V6, families or Families())


# --- who is tried when ---


def test_the_second_address_is_left_alone_where_the_first_one_answers() -> None:
    with Net(accepted(0.2), accepted()) as net:
        assert net.connects(dual()) == "10.0.0.1:80"
        assert net.tried == [("10.0.0.1:80", 0)]


def test_a_refusal_brings_the_second_one_at_once() -> None:
    with Net(refused(0.01), accepted()) as net:
        assert net.connects(dual()) == "fd00::1:80"
        assert net.tried == [("10.0.0.1:80", 0), ("fd00::1:80", 0.01)]


def test_no_route_is_as_good_as_a_refusal() -> None:
    with Net(refused(0, NO_ROUTE), accepted()) as net:
        assert net.connects(dual()) == "fd00::1:80"
        assert net.tried[1] == ("fd00::1:80", 0)


def test_silence_brings_the_second_one_after_250_ms() -> None:
    with Net(NEVER, accepted()) as net:
        assert net.connects(dual()) == "fd00::1:80"
        assert net.tried == [("10.0.0.1:80", 0), ("fd00::1:80", 0.25)]


def test_the_first_one_may_still_win() -> None:
    with Net(accepted(0.3), accepted(0.2)) as net:
        assert net.connects(dual()) == "10.0.0.1:80"
        assert net.order == ["10.0.0.1:80", "fd00::1:80"]


def test_the_first_one_may_still_answer_when_the_second_one_has_failed() -> None:
    with Net(accepted(1), refused()) as net:
        assert net.connects(dual()) == "10.0.0.1:80"


def test_of_two_that_answer_at_once_one_is_kept() -> None:
    with Net(NEVER, NEVER) as net:
        both = net.loop.create_future()

        async def reach(address: str) -> None:
            await asyncio.shield(both)

        net.loop.reach = reach
        net.loop.call_later(0.3, both.set_result, None)
        assert net.connects(dual()) == "10.0.0.1:80"
        assert len(net.sockets) == 2


def test_a_short_timeout_leaves_time_for_both() -> None:
    with Net(NEVER, accepted()) as net:
        assert net.connects(dual(), 0.1) == "fd00::1:80"
        assert net.tried[1] == ("fd00::1:80", 0.05)


def test_one_address_pays_for_no_race() -> None:
    with Net(accepted(), accepted()) as net:
        assert net.connects(Destination(V4)) == "10.0.0.1:80"
        assert net.sockets == []
        assert len(net.loop.tasks) == 1  # the test's


# --- what is remembered ---


def test_a_dead_family_costs_250_ms_once() -> None:
    with Net(NEVER, accepted()) as net:
        server = dual()
        net.connects(server)
        assert server.preferred == "[fd00::1]:80"
        for _ in range(3):
            assert net.connects(server) == "fd00::1:80"
            assert net.tried == [("fd00::1:80", 0)]


def test_the_other_family_is_there_again_when_the_remembered_one_dies() -> None:
    with Net(refused(), accepted()) as net:
        server = dual()
        net.connects(server)
        net.outcomes = {"10.0.0.1:80": accepted(), "fd00::1:80": NEVER}
        assert net.connects(server) == "10.0.0.1:80"
        assert net.tried == [("fd00::1:80", 0), ("10.0.0.1:80", 0.25)]
        net.connects(server)
        assert net.tried == [("10.0.0.1:80", 0)]


def test_nothing_is_learned_from_two_failures() -> None:
    with Net(refused(), refused()) as net:
        server = dual()
        net.connects(server)
        net.connects(server)
        assert net.order == ["10.0.0.1:80", "fd00::1:80"]


def test_another_port_starts_from_what_is_known_and_teaches_nothing() -> None:
    with Net(refused(), accepted()) as net:
        server = dual()
        net.connects(server)
        net.outcomes = {"10.0.0.1:81": accepted(), "fd00::1:81": refused()}
        assert net.connects(server.on(81)) == "10.0.0.1:81"
        assert net.order == ["fd00::1:81", "10.0.0.1:81"]
        assert server.preferred == "[fd00::1]:80"
    assert Destination(V4).on(81).candidates() == (Address("10.0.0.1", 81),)
    assert Destination(Address("", 0, "/app.sock")).on(81).candidates() == (Address("", 0, "/app.sock"),)


# --- several servers behind one name ---


def test_a_family_that_works_is_the_only_one_for_all_servers_of_the_name() -> None:
    """The second address may be the neighbour's, and a dead server's requests are not the neighbour's."""
    families = Families()
    other = Address("10.0.0.2", 80)
    families.belong_to(frozenset({V4, other}))
    with Net(accepted(), accepted()) as net:
        one, two = dual(families), Destination(other, Address("fd00::2", 80), families)
        net.outcomes |= {"10.0.0.2:80": refused(), "fd00::2:80": accepted()}
        assert net.connects(one) == "10.0.0.1:80"
        assert net.connects(two) == "connect to 10.0.0.2:80: connect call failed ('10.0.0.1', 80)"
        assert net.connects(two).startswith("connect to 10.0.0.2:80: ")  # one alone proves nothing, however often
        assert net.order == ["10.0.0.2:80"]


def test_a_family_that_is_dead_for_all_of_them_is_left() -> None:
    families = Families()
    other = Address("10.0.0.2", 80)
    families.belong_to(frozenset({V4, other}))
    with Net(accepted(), accepted()) as net:
        one, two = dual(families), Destination(other, Address("fd00::2", 80), families)
        net.outcomes |= {"10.0.0.2:80": accepted(), "fd00::2:80": accepted()}
        net.connects(one)
        net.outcomes |= {"10.0.0.1:80": refused(), "10.0.0.2:80": NEVER}
        assert net.connects(one).startswith("connect to")
        assert net.connects(two) == "no connection to 10.0.0.2:80 within 5 s"
        assert net.connects(two) == "fd00::2:80"
        assert net.connects(one) == "fd00::1:80"
        assert net.order == ["fd00::1:80"]


def test_only_the_servers_that_there_are_say_whether_a_family_is_dead() -> None:
    one, two = Address("10.0.0.1", 80), Address("10.0.0.2", 80)
    families = Families()
    families.belong_to(frozenset({one, two}))
    families.connected(v6=False)
    families.failed(two)
    families.belong_to(frozenset({one}))
    families.belong_to(frozenset({one, two}))  # it is back, and nothing is known of it
    families.failed(one)
    assert families.known
    families.failed(two)
    assert not families.known


def test_one_connection_shows_that_the_family_is_alive() -> None:
    one, two = Address("10.0.0.1", 80), Address("10.0.0.2", 80)
    families = Families()
    families.belong_to(frozenset({one, two}))
    families.connected(v6=False)
    families.failed(two)
    families.connected(v6=False)
    families.failed(one)
    assert families.known


# --- what is said ---


@pytest.mark.parametrize(
    ("v4", "v6", "said"),
    [
        (refused(), refused(), "connect to 10.0.0.1:80: connection refused, to [fd00::1]:80: connection refused"),
        (
            refused(),
            refused(0.1, NO_ROUTE),
            "connect to 10.0.0.1:80: connection refused, to [fd00::1]:80: network is unreachable",
        ),
        (NEVER, refused(), "connect to 10.0.0.1:80: no answer within 2 s, to [fd00::1]:80: connection refused"),
        (refused(1), NEVER, "connect to 10.0.0.1:80: connection refused, to [fd00::1]:80: no answer within 2 s"),
        (NEVER, NEVER, "connect to 10.0.0.1:80: no answer within 2 s, to [fd00::1]:80: no answer within 2 s"),
        (
            refused(0, OSError("a word")),
            refused(0, TimeoutError(errno.ETIMEDOUT, "Connect call failed")),
            "connect to 10.0.0.1:80: a word, to [fd00::1]:80: connection timed out",
        ),
    ],
)
def test_both_addresses_are_named_and_what_happened_to_each(v4: Outcome, v6: Outcome, said: str) -> None:
    with Net(v4, v6) as net:
        assert net.connects(dual(), 2.0) == said
        assert net.made == 0


def test_the_timeout_covers_both() -> None:
    with Net(NEVER, NEVER) as net:
        task = net.loop.create_task(connect(dual(), net._protocol, 2.0))
        net.loop.run()
        net.loop.advance(1.99)
        assert not task.done()
        net.loop.advance(0.02)
        assert isinstance(task.exception(), ConnectFailure)


# --- nothing is left behind ---

_TIMES = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 1.0])
_OUTCOMES = st.none() | st.tuples(_TIMES, st.sampled_from([REFUSED, "accepted"]))


@settings(deadline=None, max_examples=300)
@given(_OUTCOMES, _OUTCOMES, st.sampled_from([0.2, 0.6, 2.0]))
def test_any_order_of_outcomes(v4: Outcome, v6: Outcome, timeout: float) -> None:
    """It connects if and only if one accepts in time; it keeps one connection, and nobody hears of another."""
    start = min(0.25, timeout / 2)
    if v4 is not None and isinstance(v4[1], OSError):
        start = min(start, v4[0])
    begins = (0.0, start)
    ends = [
        begin + outcome[0]
        for begin, outcome in zip(begins, (v4, v6), strict=True)
        if outcome is not None and outcome[1] == "accepted"
    ]
    first = min(ends, default=9.0)
    with Net(v4, v6) as net:
        found = net.connects(dual(), timeout)
        if first > timeout + 0.01:
            assert found.startswith("connect to 10.0.0.1:80: ")
        elif first < timeout - 0.01:
            assert found in ("10.0.0.1:80", "fd00::1:80")
            assert round(ends[0], 2) > round(first, 2) or len(ends) > 1 or found == net.peers[0].name
        assert len(net.peers) == net.made <= 1


@settings(deadline=None, max_examples=300)
@given(_OUTCOMES, _OUTCOMES, st.integers(0, 40))
def test_cancelled_at_any_step(v4: Outcome, v6: Outcome, steps: int) -> None:
    """`Net` looks for tasks and sockets that are left."""
    with Net(v4, v6) as net:
        task = net.loop.create_task(connect(dual(), net._protocol, 2.0))
        for _ in range(steps):
            if net.loop._ready:
                handle = net.loop._ready.popleft()
                if not handle.cancelled():
                    handle._run()
            else:
                net.loop.advance(0.05)
        task.cancel()
        net.loop.run()
        assert task.done()
        if task.cancelled():
            assert all(peer.closed for peer in net.peers)


# --- real sockets ---


class _App:
    """Listens at one address of loopback, or holds a port that nobody listens on."""

    def __init__(self, family: int, port: int = 0, *, backlog: int | None = 8) -> None:
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        if backlog is not None:
            self.sock.listen(backlog)
        self.address = Address(*self.sock.getsockname()[:2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class _Hello(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)


def on_loopback(port: int) -> Destination:
    return Destination(Address("127.0.0.1", port), Address("::1", port), Families())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_an_app_that_listens_on_one_family(family: int) -> None:
    with _App(family) as app:
        made = await connect(on_loopback(app.address.port), _Hello, 5.0)
        assert Address(*made.transport.get_extra_info("peername")[:2]) == app.address
        sock = made.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        made.transport.abort()
    await asyncio.sleep(0)


async def test_nobody_listens() -> None:
    with _App(socket.AF_INET, backlog=None) as nobody:
        port = nobody.address.port
        with pytest.raises(ConnectFailure) as caught:
            await connect(on_loopback(port), _Hello, 5.0)
    assert str(caught.value) == (
        f"connect to 127.0.0.1:{port}: connection refused, to [::1]:{port}: connection refused"
    )


async def test_a_black_hole() -> None:
    """A full backlog drops what comes."""
    with _App(socket.AF_INET, backlog=0) as hole, _App(socket.AF_INET6, hole.address.port) as app:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(hole.address[:2])
        loop = asyncio.get_running_loop()
        destination = on_loopback(app.address.port)
        began = loop.time()
        made = [await connect(destination, _Hello, 5.0) for _ in range(3)]
        assert 0.2 < loop.time() - began < 2
        for each in made:
            assert each.transport.get_extra_info("peername")[0] == "::1"
            each.transport.abort()
        for filler in fillers:
            filler.close()
    await asyncio.sleep(0)
