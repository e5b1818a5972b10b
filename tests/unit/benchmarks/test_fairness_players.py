"""The players of the fairness run: the victim and the pump over sockets of the test's own, and how both are started."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.fairness.pump import TICK, Engine, Pump, Script, Ticks
from benchmarks.fairness.run import _together
from benchmarks.fairness.schedule import INTERVAL, LIMIT, Schedule
from benchmarks.fairness.victim import Asker

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Proxy:
    """A listener, and the asker's last connection to it; time is what the test says."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.asker = Asker(listener.getsockname()[1])
        self.sock = socket.socket()
        self.accept()

    def accept(self) -> None:
        """Take the asker's next connection in place of the last one."""
        self.sock.close()
        self.sock, _ = self.listener.accept()
        self.sock.settimeout(5)

    def requests(self) -> int:
        """How many wait to be read."""
        self.sock.setblocking(False)
        try:
            return self.sock.recv(65536).count(b"GET /victim HTTP/1.1\r\n")
        except BlockingIOError:
            return 0

    def answer(self, wire: bytes, now: float) -> None:
        self.sock.sendall(wire)
        self.asker.look(True, now)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Proxy(listener)
        made.asker.begin(Schedule(100.0, 4 * INTERVAL))
        yield made
        made.sock.close()
        made.asker.sock.close()


def test_a_request_leaves_when_it_is_due_and_not_before(proxy: Proxy) -> None:
    assert proxy.asker.wakes() == 100.0
    proxy.asker.look(False, 99.999)
    assert proxy.requests() == 0
    proxy.asker.look(False, 100.0)
    assert proxy.requests() == 1


def test_requests_that_met_a_stall_count_it_from_their_own_times(proxy: Proxy) -> None:
    proxy.asker.look(False, 100.0)
    for _ in range(4):
        proxy.answer(ANSWER, 100.5)
    assert proxy.asker.done
    assert proxy.asker.waits == pytest.approx([0.5, 0.495, 0.49, 0.485])
    assert proxy.asker.replies == pytest.approx([0.5, 0.0, 0.0, 0.0])
    assert proxy.asker.failed == 0


def test_half_an_answer_is_none(proxy: Proxy) -> None:
    proxy.asker.look(False, 100.0)
    proxy.answer(ANSWER[:-1], 100.1)
    assert proxy.asker.waits == []
    proxy.answer(ANSWER[-1:], 100.2)
    assert proxy.asker.waits == pytest.approx([0.2])


def test_no_answer_within_the_limit_counts_as_the_limit(proxy: Proxy) -> None:
    proxy.asker.look(False, 100.0)
    assert proxy.asker.wakes() == 100.0 + LIMIT
    proxy.asker.look(False, 100.0 + LIMIT)
    assert (proxy.asker.waits, proxy.asker.failed) == ([LIMIT], 1)
    proxy.accept()
    proxy.asker.look(False, 100.0 + LIMIT)
    assert proxy.requests() == 1


def test_what_has_expired_before_it_could_be_sent_is_not_sent(proxy: Proxy) -> None:
    proxy.asker.look(False, 100.0)
    proxy.asker.look(False, 200.0)
    proxy.accept()
    for _ in range(3):
        proxy.asker.look(False, 200.0)
    assert proxy.asker.done
    assert (proxy.asker.waits, proxy.asker.failed) == ([LIMIT] * 4, 4)
    assert proxy.requests() == 0
    assert proxy.asker.replies == [LIMIT]


@pytest.mark.parametrize("answer", [ANSWER.replace(b"200 OK", b"503 Service Unavailable"), b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_wrong_answer_counts_as_none(proxy: Proxy, answer: bytes) -> None:
    proxy.asker.look(False, 100.0)
    proxy.answer(answer, 100.001)
    assert (proxy.asker.waits, proxy.asker.failed) == ([LIMIT], 1)


def test_a_connection_closed_under_a_request_counts_as_none_and_is_opened_again(proxy: Proxy) -> None:
    proxy.asker.look(False, 100.0)
    proxy.sock.close()
    proxy.asker.look(True, 100.001)
    assert (proxy.asker.waits, proxy.asker.failed) == ([LIMIT], 1)
    proxy.accept()
    proxy.asker.look(False, 100.005)
    proxy.answer(ANSWER, 100.006)
    assert proxy.asker.waits == pytest.approx([LIMIT, 0.001])


def test_an_idle_connection_may_be_closed(proxy: Proxy) -> None:
    proxy.sock.close()
    proxy.asker.look(True, 99.0)
    proxy.accept()
    proxy.asker.look(False, 100.0)
    proxy.answer(ANSWER, 100.001)
    assert proxy.asker.waits == pytest.approx([0.001])
    assert proxy.asker.failed == 0


def test_a_proxy_that_is_gone_fails_every_request(proxy: Proxy) -> None:
    proxy.listener.close()
    proxy.sock.close()
    proxy.asker.look(True, 99.0)
    for number in range(4):
        proxy.asker.look(False, 100.0 + number * INTERVAL)
    assert (proxy.asker.waits, proxy.asker.failed) == ([LIMIT] * 4, 4)


# --- the pump ---


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def test_a_script_is_its_prefix_and_then_its_cycle(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    engine = Engine()
    engine.add(Pump(ours, Script(b"head ", b"abc")))
    for _ in range(4):
        assert engine.poll(1) == []
    assert read(theirs, 14) == b"head abcabcabc"


def test_an_empty_cycle_ends_the_script(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    pump, engine = Pump(ours, Script(b"once")), Engine()
    engine.add(pump)
    engine.poll(1)
    assert not pump.wants_to_send
    assert engine.poll(0) == []
    assert read(theirs, 4) == b"once"
    assert pump.sent == 4


def test_paced_scripts_send_a_bite_in_each_tick(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    pump, engine = Pump(ours, Script(b"head", b"abc", bite=3)), Engine()
    engine.add(pump)
    assert engine.poll(0) == []
    assert pump.sent == 0
    for _ in range(3):
        engine.bite(1)
    assert read(theirs, pump.sent) == b"headabc"  # a bite does not go on from the prefix to the cycle
    engine.bite(2)
    assert pump.sent == 10


def test_the_cycle_may_wait_for_an_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    pump, engine = Pump(ours, Script(b"switch", b"frame", after_answer=True)), Engine()
    engine.add(pump)
    engine.poll(1)
    assert not pump.wants_to_send
    theirs.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    engine.poll(1)
    assert (pump.first, pump.received) == (b"HTTP/1.1 101 Swi", 36)
    engine.poll(1)
    assert read(theirs, 11) == b"switchframe"


def test_a_peer_that_ends_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    pump, engine = Pump(ours, Script()), Engine()
    engine.add(pump)
    theirs.close()
    assert engine.poll(1) == [pump]
    engine.remove(pump)
    assert ours.fileno() == -1
    assert engine.poll(0) == []


def test_ticks() -> None:
    ticks = Ticks(10.0)
    assert ticks.due(9.999) == 0
    assert ticks.due(10.0) == 1
    assert ticks.due(10.0 + TICK / 2) == 0
    assert ticks.due(10.0 + 2.5 * TICK) == 2
    assert ticks.due(20.0) == 4  # what was missed for long is not sent at once
    assert ticks.due(20.0) == 0
    assert ticks.next == pytest.approx(20.0, abs=TICK)


# --- the processes ---

CORE = min(os.sched_getaffinity(0))


def script(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_players_begin_at_the_same_time() -> None:
    player = script("""print('ready', flush=True); print('{"start": %s}' % input())""")
    first, second = _together(player, player, CORE, 0.0)
    assert first == second
    assert first["start"] > 0


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit('no port')",
        "print('ready', flush=True); input(); raise SystemExit('no port')",
        "print('ready', flush=True); raise SystemExit('no port')",
    ],
)
def test_a_player_that_fails_is_named_with_its_last_words(code: str) -> None:
    good = script("print('ready', flush=True); print(input())")
    with pytest.raises(BenchmarkError, match=r"failed: no port$"):
        _together(good, script(code), CORE, 0.0)
