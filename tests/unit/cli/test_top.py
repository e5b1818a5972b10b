from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from meshlet.cli import top, top_table
from meshlet.cli.admin_client import AdminError
from meshlet.cli.top import Row, Tables, difference
from meshlet.telemetry.traffic import EndpointTraffic, RouteTraffic, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUNDS = (0.01, 0.1, 1.0)


def route(
    name: str = "/", *, requests: int = 0, failures: int = 0, durations: tuple[int, ...] = (0, 0, 0, 0), **more: Any
) -> RouteTraffic:
    given: dict[str, Any] = {
        "listener": "in",
        "direction": "inbound",
        "cluster": "app",
        "retries": 0,
        "active": 0,
    } | more
    return RouteTraffic(
        route=name, requests=requests, failures=failures, durations=durations, received=0, sent=0, **given
    )


def endpoint(
    name: str = "10.0.0.1:80", *, requests: int = 0, failures: int = 0, state: str = "available"
) -> EndpointTraffic:
    return EndpointTraffic("app", name, state, requests, failures, 1, 2, (requests, 0, 0, 0))


def traffic(time: float, routes: list[RouteTraffic], endpoints: list[EndpointTraffic] | None = None) -> Traffic:
    return Traffic(time, BOUNDS, tuple(routes), tuple(endpoints or ()))


def test_figures_are_about_what_happened_between_two_moments() -> None:
    before = traffic(100.0, [route(requests=10, failures=10, durations=(0, 0, 0, 10), retries=5)])
    now = traffic(102.0, [route(requests=20, failures=11, durations=(5, 5, 0, 10), retries=9, active=3)])
    (row,) = difference(before, now).routes
    assert (row.rate, row.failures, row.success, row.retries, row.active) == (5.0, 0.5, 0.9, 2.0, 3)
    assert row.p50 == pytest.approx(0.01)
    assert row.p99 == pytest.approx(0.0982)


def test_what_saw_nothing_has_no_shares() -> None:
    same = [route(requests=7, durations=(7, 0, 0, 0))]
    (row,) = difference(traffic(1.0, same), traffic(2.0, same)).routes
    assert (row.rate, row.success, row.p50, row.p95, row.p99) == (0.0, None, None, None, None)


def test_what_is_new_or_began_anew_counts_from_zero() -> None:
    before = traffic(1.0, [route("old", requests=100, durations=(100, 0, 0, 0))])
    now = traffic(
        2.0, [route("old", requests=3, durations=(3, 0, 0, 0)), route("new", requests=4, durations=(4, 0, 0, 0))]
    )
    assert {row.name: row.rate for row in difference(before, now).routes} == {"old": 3.0, "new": 4.0}


def test_endpoints_tell_their_state() -> None:
    found = difference(
        traffic(1.0, [], [endpoint()]), traffic(2.0, [], [endpoint(requests=4, failures=1, state="ejected")])
    )
    (row,) = found.endpoints
    assert (row.name, row.cluster, row.rate, row.success, row.state, row.retries) == (
        "10.0.0.1:80", "app", 4.0, 0.75, "ejected", None,
    )  # fmt: skip


def test_connections_that_were_refused_have_failed() -> None:
    (row,) = difference(traffic(1.0, [], [endpoint()]), traffic(2.0, [], [endpoint(failures=3)])).endpoints
    assert (row.rate, row.failures, row.success) == (0.0, 3.0, 0.0)


def test_tcp_is_shown_where_there_is_any() -> None:
    now = [route("TCP", cluster="a"), route("TCP", cluster="b", active=1), route("TCP", cluster="c", requests=1)]
    assert {row.cluster for row in difference(traffic(1.0, []), traffic(2.0, now)).routes} == {"b", "c"}


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("rate", ["b", "a", "c"]), ("failures", ["c", "b", "a"]), ("p99", ["a", "b", "c"]), ("name", ["a", "b", "c"])],
)
def test_sorting(sort: str, expected: list[str]) -> None:
    now = [
        route("c", requests=1, failures=1, durations=(1, 0, 0, 0)),
        route("a", requests=2, durations=(0, 0, 2, 0)),
        route("b", requests=3, durations=(0, 3, 0, 0)),
    ]
    assert [row.name for row in difference(traffic(1.0, []), traffic(2.0, now), sort).routes] == expected


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_figures_are_sane_whatever_happened(old: list[int], new: list[int]) -> None:
    before = traffic(1.0, [route(requests=sum(old), failures=old[0], durations=tuple(old))])
    now = traffic(
        1.0,
        [
            route(
                requests=sum(old) + sum(new),
                failures=old[0] + new[0],
                durations=tuple(a + b for a, b in zip(old, new, strict=True)),
            )
        ],
    )
    (row,) = difference(before, now).routes  # no time between them: a clock that was set back
    assert row.rate >= 0
    assert row.success is None or 0 <= row.success <= 1
    if row.p50 is not None and row.p95 is not None and row.p99 is not None:
        assert row.p50 <= row.p95 + 1e-9 <= row.p99 + 2e-9 <= BOUNDS[-1] + 3e-9  # interpolated, so rounded


# --- the command ---


class FakeClient:
    """Answers with what it was given, one after the other."""

    def __init__(self, *answers: Traffic | str) -> None:
        self.answers = iter(answers)
        self.asked: list[str] = []
        self.address = "127.0.0.1:15000"

    def get_text(self, path: str) -> str:
        self.asked.append(path)
        answer = next(self.answers, None)
        if answer is None:
            raise KeyboardInterrupt
        return answer if isinstance(answer, str) else msgspec.json.encode(answer).decode()


FIRST = traffic(1.0, [route("/"), route("/slow")], [endpoint()])
SECOND = traffic(
    2.0,
    [route("/", requests=9, durations=(9, 0, 0, 0)), route("/slow", requests=1, failures=1, durations=(0, 0, 1, 0))],
    [endpoint(requests=10, failures=1, state="unhealthy: GET /healthz answered 503")],
)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient(FIRST, SECOND, SECOND)
    monkeypatch.setattr(top, "AdminClient", lambda _: client)
    return client


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    real: Any = top._looks
    monkeypatch.setattr(top, "_looks", lambda *given: real(*given, slept.append))
    return slept


def test_once_as_text(client: FakeClient, slept: list[float]) -> None:
    result = CliRunner().invoke(top.command, ["--once", "--interval", "5s", "--sort", "failures"])
    assert (result.exit_code, slept, client.asked) == (0, [5.0], ["/traffic", "/traffic"])
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["Routes"]
    assert lines[1] == ["listener", "route", "cluster", "rate/s", "ok", "%", "p50", "p95", "p99", "retry/s", "active"]
    assert lines[2][:5] == ["in", "/slow", "app", "1.0", "0.00"]
    assert lines[3][:5] == ["in", "/", "app", "9.0", "100"]
    assert "unhealthy: GET /healthz answered 503" in result.stdout
    assert "\x1b" not in result.stdout


def test_once_as_json(client: FakeClient, slept: list[float]) -> None:
    result = CliRunner().invoke(top.command, ["--once", "--output", "json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["seconds"] == 1.0
    assert document["routes"][1] == {
        "listener": "in", "direction": "inbound", "route": "/slow", "cluster": "app", "rate": 1.0, "failures": 1.0,
        "success": 0.0, "p50": 0.55, "p95": 0.955, "p99": 0.991, "retries": 0.0, "active": 0,
    }  # fmt: skip
    assert document["endpoints"][0]["state"].startswith("unhealthy")


def test_json_goes_on_until_ctrl_c(client: FakeClient, slept: list[float]) -> None:
    result = CliRunner().invoke(top.command, ["--output", "json"])
    assert result.exit_code == 0
    assert [len(json.loads(line)["routes"]) for line in result.stdout.splitlines()] == [2, 2]
    assert slept == [1.0, 1.0, 1.0]


def test_the_live_table_needs_a_terminal(client: FakeClient, slept: list[float]) -> None:
    result = CliRunner().invoke(top.command, [])
    assert result.exit_code == 2
    assert "--once or --output json" in result.output


@pytest.mark.parametrize("interval", ["0s", "10ms", "soon", "-1s"])
def test_an_interval_that_makes_no_sense(interval: str) -> None:
    result = CliRunner().invoke(top.command, ["--interval", interval])
    assert result.exit_code == 2
    assert "expected" in result.output


@pytest.mark.parametrize("answer", ["{}", "[]", "not JSON", '{"time": "now"}', '{"x": ' + "[" * 100_000])
def test_an_answer_of_something_else(answer: str) -> None:
    with pytest.raises(AdminError, match="same version"):
        top._ask(FakeClient(answer))  # type: ignore[arg-type]


# --- the terminal ---


def rendered(tables: Tables, width: int, height: int | None = None) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    console.print(top_table._render(tables, width, height))
    return [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in out.getvalue().splitlines()]


def row(name: str, **more: Any) -> Row:
    values: dict[str, Any] = {
        "listener": "in", "direction": "inbound", "name": name, "cluster": "app", "rate": 1.0, "failures": 0.0,
        "success": 1.0, "p50": 0.001, "p95": 0.25, "p99": 2.5, "retries": 0.0, "active": 0, "state": "",
    }  # fmt: skip
    return Row(**(values | more))


def test_a_terminal_is_never_overflowed() -> None:
    tables = Tables(
        1.0, [row(f"/{n}") for n in range(40)], [row(f"10.0.0.{n}:80", state="available") for n in range(40)]
    )
    for height in (8, 12, 24, 60):
        lines = rendered(tables, 120, height)
        assert len(lines) <= height
        assert any(line.startswith("and ") for line in lines)
    assert len(rendered(tables, 120)) == 84


def test_a_short_table_leaves_its_room_to_the_other() -> None:
    tables = Tables(1.0, [row(f"/{n}") for n in range(40)], [row("10.0.0.1:80", state="available")])
    lines = rendered(tables, 120, 30)
    assert sum("/" in line and "rate/s" not in line for line in lines) >= 23


def test_a_narrow_terminal_keeps_the_names() -> None:
    lines = rendered(Tables(1.0, [row("/checkout")], []), 80)
    assert "/checkout" in lines[2]
    assert "p99" in lines[1]
    assert "p50" not in lines[1]


def test_names_are_text() -> None:
    lines = rendered(Tables(1.0, [row("[red]/x[/red]\x1b[2J\n")], []), 160)
    assert r"[red]/x[/red]\x1b[2J\n" in lines[2]


@pytest.mark.parametrize(
    ("more", "style"),
    [
        ({}, ""),
        ({"success": None}, ""),
        ({"success": 0.95}, "yellow"),
        ({"success": 0.2}, "red"),
        ({"state": "available"}, ""),
        ({"state": "ejected"}, "yellow"),
        ({"state": "unhealthy: refused"}, "red"),
    ],
)
def test_what_needs_a_look_is_coloured(more: dict[str, Any], style: str) -> None:
    assert top_table._style(row("/", **more)) == style


def test_figures_are_short_and_honest() -> None:
    assert [top_table._percent(share) for share in (1.0, 0.999999, 0.5, 0.0, None)] == [
        "100",
        "99.99",
        "50.00",
        "0.00",
        top_table._NONE,
    ]
    assert [top_table._duration(value) for value in (0.0005, 0.25, 2.5, None)] == [
        "0.5 ms",
        "250 ms",
        "2.50 s",
        top_table._NONE,
    ]
    assert [top_table._number(value) for value in (0.0, 0.25, 1234.5, None)] == ["0", "0.2", "1234", top_table._NONE]


def test_live_shows_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(top_table, "Console", lambda **_: Console(file=out, width=120, height=20, force_terminal=True))

    def looks() -> Iterator[Tables]:
        yield Tables(1.0, [row("/first")], [])
        yield Tables(1.0, [row("/second")], [])

    top_table.live(looks(), "127.0.0.1:15000", 1.0)
    assert "/first" in out.getvalue()
    assert "/second" in out.getvalue()
    assert "\x1b[?1049l" in out.getvalue()  # the terminal is as it was before
