from __future__ import annotations

from meshlet.telemetry.history import History
from meshlet.telemetry.traffic import EndpointTraffic, RouteTraffic, Traffic, merge_traffic

BOUNDS = (0.1, 1.0)


def route(requests: int, durations: tuple[int, ...], *, failures: int = 0, name: str = "all") -> RouteTraffic:
    return RouteTraffic("in", "inbound", name, "app", requests, failures, 0, 1, 10, 20, durations)


def traffic(*routes: RouteTraffic, time: float = 0.0, state: str = "available") -> Traffic:
    endpoint = EndpointTraffic("app", "10.0.0.1:80", state, 4, 1, 2, 3, (1, 2, 1))
    return Traffic(time, BOUNDS, routes, (endpoint,))


def test_a_point_is_what_has_happened_since_the_one_before() -> None:
    history = History()
    history.add(traffic(route(10, (10, 0, 0))))
    assert history.points == []
    history.add(traffic(route(14, (10, 4, 0), failures=1), route(7, (7, 0, 0), name="TCP"), time=5.0))
    (point,) = history.points
    assert point["time"] == 5.0
    assert point["inbound"] == {"requests": 4, "failures": 1, "p50": 0.55, "p95": 0.955, "p99": 0.991}
    assert point["outbound"] == {"requests": 0, "failures": 0, "p50": None, "p95": None, "p99": None}


def test_totals_that_have_shrunk_are_no_traffic() -> None:
    history = History()
    history.add(traffic(route(10, (10, 0, 0))))
    history.add(traffic(route(3, (2, 1, 0))))
    (point,) = history.points
    assert (point["inbound"]["requests"], point["inbound"]["failures"]) == (0, 0)


def test_a_moment_without_workers_leaves_no_mark() -> None:
    history = History()
    history.add(traffic(route(10, (10, 0, 0))))
    history.add(merge_traffic([]))
    history.add(traffic(route(11, (11, 0, 0))))
    (point,) = history.points
    assert point["inbound"]["requests"] == 1


def test_a_quarter_of_an_hour_is_kept() -> None:
    history = History()
    for number in range(400):
        history.add(traffic(time=float(number)))
    assert [point["time"] for point in history.points] == [float(number) for number in range(220, 400)]


def test_processes_add_up() -> None:
    one = traffic(route(1, (1, 0, 0)), time=3.0)
    other = traffic(route(2, (0, 1, 1), failures=1), route(5, (5, 0, 0), name="more"), time=2.0, state="ejected")
    total = merge_traffic([one, other])
    assert (total.time, total.bounds) == (3.0, BOUNDS)
    assert [(each.route, each.requests, each.failures, each.durations) for each in total.routes] == [
        ("all", 3, 1, (1, 1, 1)),
        ("more", 5, 0, (5, 0, 0)),
    ]
    (endpoint,) = total.endpoints
    assert (endpoint.state, endpoint.requests, endpoint.connections) == ("ejected", 8, 6)
    assert endpoint.durations == (2, 4, 2)
