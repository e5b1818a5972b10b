from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from meshlet.cli.routes import command

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
listeners:
  - name: inbound
    address: 127.0.0.1:8000
    limits: {max_target_bytes: 60}
    routes:
      - name: health
        match: {path: /healthz}
        direct_response: {status: 200, body: fine}
      - name: old-shop
        match: {host: [shop.example.com, www.shop.example.com]}
        redirect: {scheme: https, host: store.example.com}
      - match: {prefix: /reviews, headers: {x-user: {regex: "(alice|bob)"}}}
        cluster: reviews-v2
      - name: canary
        match: {prefix: /reviews}
        split:
          - {cluster: reviews-v1, weight: 3}
          - {cluster: reviews-v2, weight: 1}
        rewrite: {prefix: /api/v1, host: reviews.internal}
      - match: {headers: {x-request-id: {present: false}}}
        cluster: reviews-v1
  - name: outbound
    address: 127.0.0.1:8001
    protocol: http
    routes:
      - match: {host: reviews}
        cluster: reviews-v1
  - name: database
    address: 127.0.0.1:8002
    protocol: tcp
    cluster: reviews-v1
clusters:
  - {name: reviews-v1, endpoints: ["127.0.0.1:8081"]}
  - {name: reviews-v2, endpoints: ["127.0.0.1:8082"]}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return str(path)


def check(config: str, request: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["check", config, "--request", request, *arguments], prog_name="meshlet routes")


def inbound(config: str, request: str, *arguments: str) -> list[str]:
    result = check(config, request, "--listener", "inbound", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("listener inbound\n")
    return result.stdout.splitlines()[1:]


def test_a_cluster_and_why_not_the_routes_before(config: str) -> None:
    assert inbound(config, "GET http://app/reviews/7", "-H", "X-User: bob") == [
        "  routes[0] (health): path is /reviews/7, not /healthz",
        "  routes[1] (old-shop): host is app, not shop.example.com or www.shop.example.com",
        "  routes[2]: yes",
        "    cluster: reviews-v2",
    ]


def test_a_split_and_a_rewrite(config: str) -> None:
    assert inbound(config, "GET http://app/reviews/7?page=2", "-H", "x-user: carol")[2:] == [
        '  routes[2]: header x-user is "carol", not what (alice|bob) matches',
        "  routes[3] (canary): yes",
        "    split: reviews-v1 75 %, reviews-v2 25 %",
        "    app is asked for: /api/v1/7?page=2",
        "    at host: reviews.internal",
    ]


def test_the_share_of_a_request_id(config: str) -> None:
    chosen = {
        line
        for number in range(40)
        for line in inbound(config, "GET http://app/reviews/7", "-H", f"x-request-id: {number}")
        if "request id" in line
    }
    assert chosen == {
        "    cluster of this request id: reviews-v1",
        "    cluster of this request id: reviews-v2",
    }


@pytest.mark.parametrize(
    ("request_", "host", "found"),
    [
        ("GET http://shop.example.com:8080/x?y", None, "https://store.example.com/x?y"),
        ("GET HTTPS://Shop.Example.Com", None, "https://store.example.com/"),
        ("GET /x", "Host: shop.example.com", "https://store.example.com/x"),
        ("GET http://shop.example.com/x", "Host: other", "https://store.example.com/x"),
    ],
)
def test_a_redirect(config: str, request_: str, host: str | None, found: str) -> None:
    headers = ["-H", host] if host is not None else []
    assert inbound(config, request_, *headers)[-2:] == ["    status: 301", f"    location: {found}"]


def test_a_direct_response(config: str) -> None:
    assert inbound(config, "GET http://app/healthz")[-3:] == [
        "  routes[0] (health): yes",
        "    status: 200",
        "    body: fine",
    ]


def test_connect_where_it_is_not_allowed(config: str) -> None:
    assert inbound(config, "CONNECT shop.example.com:443")[-2:] == [
        "    status: 405",
        "    because: the route does not allow CONNECT",
    ]


def test_all_listeners_that_take_http(config: str) -> None:
    result = check(config, "GET http://reviews/x")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-7:] == [
        "  routes[2]: path is /x, not at or below /reviews",
        "  routes[3] (canary): path is /x, not at or below /reviews",
        "  routes[4]: header x-request-id is present",  # meshlet gives each request one
        "  no route: 404, flag NR",
        "listener outbound",
        "  routes[0]: yes",
        "    cluster: reviews-v1",
    ]


def test_no_route(config: str) -> None:
    result = check(config, "GET http://app/x", "--listener", "outbound")
    assert (result.exit_code, result.stdout, result.stderr) == (
        1,
        "listener outbound\n  routes[0]: host is app, not reviews\n  no route: 404, flag NR\n",
        "",
    )


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)["listeners"]


def test_json(config: str) -> None:
    result = check(config, "GET http://reviews/reviews/1", "--output", "json", "-H", "x-request-id: 1")
    assert result.exit_code == 0
    first, second = as_json(result)
    assert second == {
        "listener": "outbound",
        "tried": [{"route": 0, "name": None, "reason": None}],
        "route": 0,
        "cluster": "reviews-v1",
    }
    assert [tried["route"] for tried in first["tried"]] == [0, 1, 2, 3]
    assert first["tried"][2] == {"route": 2, "name": None, "reason": "header x-user is absent"}
    assert (first["route"], first["split"]) == (3, {"reviews-v1": 75.0, "reviews-v2": 25.0})
    assert first["cluster_of_this_request_id"] in first["split"]
    assert (first["app_is_asked_for"], first["at_host"]) == ("/api/v1/1", "reviews.internal")


def test_json_without_a_route(config: str) -> None:
    result = check(config, "GET http://app/x", "--listener", "outbound", "--output", "json")
    assert result.exit_code == 1
    assert as_json(result) == [
        {
            "listener": "outbound",
            "tried": [{"route": 0, "name": None, "reason": "host is app, not reviews"}],
            "route": None,
        }
    ]


@pytest.mark.parametrize(
    ("request_", "arguments", "words"),
    [
        ("GET /x", [], "listener inbound refuses this request with 400: no Host field"),
        ("GET", [], "refuses this request with 400"),
        ("GET http://a/b c", [], "the request line is not METHOD TARGET VERSION"),
        ("GET http://a/" + "b" * 60, [], "refuses this request with 414"),
        ("GET http://a/b#c", [], "a fragment"),
        ("GET http://a/", ["-H", "no-colon"], "a header line without a colon"),
        ("GET http://a/", ["-H", "a b: c"], "a field name that is not a token"),
        (
            "GET http://a/",
            ["--listener", "database"],
            "no listener 'database' that takes HTTP; there are: inbound, outbound",
        ),
    ],
)
def test_flags_that_are_wrong(config: str, request_: str, arguments: list[str], words: str) -> None:
    result = check(config, request_, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_a_config_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.replace("path: /healthz", "path: healthz"))
    result = check(str(path), "GET http://a/")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{path}:7: listeners[0].routes[0].match.path: found 'healthz'" in result.stderr


def test_only_tcp(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    listener = "listeners: [{name: db, address: 127.0.0.1:8002, protocol: tcp, cluster: reviews-v1}]\n"
    path.write_text(listener + CONFIG[CONFIG.index("clusters:\n") :])
    result = check(str(path), "GET http://a/")
    assert result.exit_code == 2
    assert "no listener takes HTTP" in result.stderr


def test_help_has_an_example() -> None:
    for arguments in (["--help"], ["check", "--help"]):
        result = CliRunner().invoke(command, arguments, prog_name="meshlet routes")
        assert result.exit_code == 0
        assert "Example: meshlet routes check" in " ".join(result.stdout.split())
