"""Reloads under load: by SIGHUP, and by the symlink swap with which Kubernetes updates a ConfigMap."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from meshlet.example_app import ExampleApp
from tests.support.callers import Callers
from tests.support.http1 import Client, dial
from tests.support.processes import Meshlet, config_of, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Config = dict[str, Any]


class ConfigMap:
    """A folder as the kubelet mounts it: the file is a link into ..data, which is a link to the present version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions = itertools.count()
        self.path = folder / "meshlet.yaml"

    def write(self, content: Config | str) -> None:
        """Bring in a new version at once, and remove the old one, as the kubelet does."""
        version = self._folder / f"..2026_01_01_{next(self._versions)}"
        version.mkdir(parents=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (version / "meshlet.yaml").write_text(text, encoding="utf-8")
        data, draft = self._folder / "..data", self._folder / "..data_tmp"
        old = data.resolve() if data.exists() else None
        draft.symlink_to(version.name)
        draft.replace(data)
        if not self.path.is_symlink():
            self.path.symlink_to("..data/meshlet.yaml")
        if old is not None:
            shutil.rmtree(old)

    def vanish(self) -> None:
        shutil.rmtree(self._folder)


class Reloaded:
    """A meshlet whose config a test changes. `by` says how it learns of that."""

    def __init__(self, folder: Path, config: Config, by: str) -> None:
        self._by = by
        self._common = {"reload": {"watch": by == "swap", "interval": "20ms"}}
        self.map = ConfigMap(folder / "config")
        self.map.write(config | self._common)
        self.process = Meshlet(["--config", self.map.path], folder / "meshlet")

    def reloads(self, result: str) -> float:
        return self.process.metric("meshlet_config_reloads_total", result=result)

    def change(self, config: Config | str, result: str = "accepted") -> None:
        """Bring in a new config and wait until that has become of it."""
        before = self.reloads(result)
        self.begin(config)
        until(lambda: self.reloads(result) > before)
        assert self.reloads(result) == before + 1

    def begin(self, config: Config | str) -> None:
        """Bring in a new config, and go on."""
        self.map.write(config | self._common if isinstance(config, dict) else config)
        if self._by == "hup":
            self.process.signal(signal.SIGHUP)

    def last(self) -> Any:
        return self.process.get("/config_dump").json()["last_reload"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def app(stack: ExitStack) -> ExampleApp:
    return stack.enter_context(ExampleApp())


@pytest.fixture(params=["hup", "swap"])
def reloaded(request: pytest.FixtureRequest, stack: ExitStack, app: ExampleApp, tmp_path: Path) -> Reloaded:
    reloaded = Reloaded(tmp_path, config_of(app.address), request.param)
    stack.enter_context(running(reloaded.process))
    reloaded.process.started()
    return reloaded


@pytest.fixture
def callers(stack: ExitStack, reloaded: Reloaded) -> Iterator[Callers]:
    """Load on the listener `in`, half of it on new connections; none of it may fail."""
    address = reloaded.process.address
    with Callers(address, 3, keep_alive=True) as kept, Callers(address, 3, keep_alive=False) as fresh:
        kept.go_on(50)
        fresh.go_on(50)
        yield kept
        kept.go_on(50)
        fresh.go_on(50)
    assert (kept.failures, fresh.failures) == ([], [])


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def accepts(address: str) -> bool:
    try:
        dial(address).close()
    except ConnectionRefusedError:
        return False
    return True


def test_routes_change(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    config = config_of(app.address, listener={"routes": [{"match": {"path": "/"}, "cluster": "app"}]})
    with reloaded.process.client() as client:
        assert client.get("/headers").status == 200
        reloaded.change(config)
        assert client.get("/headers").field("x-meshlet-flag") == "NR"  # on a connection from before
        reloaded.change(config_of(app.address))
        assert client.get("/headers").status == 200


def test_clusters_change(reloaded: Reloaded, callers: Callers, app: ExampleApp, stack: ExitStack) -> None:
    other = stack.enter_context(ExampleApp())
    reloaded.change(config_of(other.address))
    assert reloaded.process.get("/clusters?format=json").json()[0]["endpoints"][0]["address"] == other.address
    callers.go_on(100)
    assert reloaded.process.metric("meshlet_endpoint_requests_total", endpoint=other.address) >= 100


def test_a_request_in_flight_keeps_its_config(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    answers = []

    def ask() -> None:
        with reloaded.process.client() as client:
            answers.append(client.get("/slow?seconds=1").text)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: reloaded.process.metric("meshlet_requests_active") >= 1)
    reloaded.change(config_of(app.address, listener={"routes": [{"match": {"path": "/"}, "cluster": "app"}]}))
    thread.join()
    assert answers == ["slept 1 s\n"]


def test_listener_is_added(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    config = config_of(app.address)
    config["listeners"].append({"name": "more", "address": "127.0.0.1:0", "routes": [{"cluster": "app"}]})
    reloaded.change(config)
    listening = reloaded.process.listening()
    assert listening["in"] == reloaded.process.address  # port 0 asked for no new one
    with Client(listening["more"]) as client:
        assert client.get().status == 200


def test_listener_is_removed(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    """Its clients are told to go, and none of their requests fails; one in flight is finished."""
    config = config_of(app.address)
    config["listeners"].append({"name": "more", "address": "127.0.0.1:0", "routes": [{"cluster": "app"}]})
    reloaded.change(config)
    more = reloaded.process.listening()["more"]
    with Callers(more, 4, keep_alive=True, obedient=True) as leaving, Client(more) as slow:
        leaving.go_on(50)
        slow.send(b"GET /slow?seconds=1 HTTP/1.1\r\nHost: app\r\n\r\n")
        until(lambda: reloaded.process.metric("meshlet_requests_active", listener="more") >= 1)
        reloaded.change(config_of(app.address))
        assert not accepts(more)
        leaving.wait(5)
        response = slow.response()
        assert (response.status, response.closes) == (200, True)
    assert leaving.failures == []
    until(lambda: reloaded.process.metric("meshlet_listener_connections", listener="more") == 0)


@pytest.mark.parametrize("protocol", ["auto", "http"])
@pytest.mark.parametrize("requests", [0, 1])
def test_a_request_that_is_on_its_way_when_its_listener_goes(
    reloaded: Reloaded, app: ExampleApp, protocol: str, requests: int
) -> None:
    """On a connection that is new, or idle: nobody has told the client yet."""
    config = config_of(app.address)
    config["listeners"].append(config["listeners"][0] | {"name": "more", "protocol": protocol})
    reloaded.change(config)
    more = reloaded.process.listening()["more"]
    with Client(more) as client:
        for _ in range(requests):
            assert client.get().status == 200
        until(lambda: reloaded.process.metric("meshlet_listener_connections", listener="more") == 1)
        reloaded.begin(config_of(app.address))
        until(lambda: not accepts(more))
        response = client.get()
        assert (response.status, response.closes) == (200, True)


@pytest.mark.parametrize("protocol", ["auto", "http"])
def test_an_idle_connection_is_closed_when_its_listener_goes(
    reloaded: Reloaded, app: ExampleApp, protocol: str
) -> None:
    config = config_of(app.address)
    config["listeners"].append(config["listeners"][0] | {"name": "more", "protocol": protocol})
    reloaded.change(config)
    with Client(reloaded.process.listening()["more"]) as used, Client(reloaded.process.listening()["more"]) as unused:
        assert used.get().status == 200
        until(lambda: reloaded.process.metric("meshlet_listener_connections", listener="more") == 2)
        reloaded.change(config_of(app.address))
        assert (used.rest(), unused.rest()) == (b"", b"")


def test_listener_moves(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    config, moved = config_of(app.address), config_of(app.address)
    config["listeners"].append({"name": "more", "address": free_address(), "routes": [{"cluster": "app"}]})
    moved["listeners"].append({"name": "more", "address": free_address(), "routes": [{"cluster": "app"}]})
    reloaded.change(config)
    old = reloaded.process.listening()["more"]
    with Callers(old, 4, keep_alive=True, obedient=True) as leaving:
        leaving.go_on(50)
        reloaded.change(moved)
        leaving.wait(5)
    assert leaving.failures == []
    new = reloaded.process.listening()["more"]
    assert new == moved["listeners"][1]["address"]
    assert not accepts(old)
    with Client(new) as client:
        assert client.get().status == 200


def test_listener_changes(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    """Protocol and limits take effect without a new socket."""
    reloaded.change(config_of(app.address, listener={"protocol": "http", "limits": {"max_body": "10"}}))
    assert reloaded.process.listening()["in"] == reloaded.process.address
    with reloaded.process.client() as client:
        response = client.ask("POST", "/", "Host: app", "Content-Length: 11", body=b"hello world")
        assert response.status == 413


def test_many_reloads(reloaded: Reloaded, callers: Callers, app: ExampleApp, stack: ExitStack) -> None:
    other = stack.enter_context(ExampleApp())
    for number in range(10):
        reloaded.change(config_of((other, app)[number % 2].address, log={"level": ("warning", "info")[number % 2]}))
    assert reloaded.reloads("accepted") == 10


BAD = """\
listeners:
  - {name: in, address: 127.0.0.1:0, routes: [{cluster: ap}], limit: {}}
clusters:
  - {name: app, endpoints: []}
"""


def test_invalid_file(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    """The running config stays; every reason is logged, counted and shown."""
    version = reloaded.process.get("/config_dump").json()["version"]
    reloaded.change(BAD, "rejected")
    last = reloaded.last()
    assert last["result"] == "rejected"
    assert len(last["reasons"]) == 3
    for reason in last["reasons"]:
        assert str(reloaded.map.path) in reason
        assert f"reload rejected, the running config stays: {reason}" in reloaded.process.stderr
    assert reloaded.process.get("/config_dump").json()["version"] == version
    assert reloaded.process.get("/ready").status == 200
    callers.go_on(20)
    reloaded.change(config_of(app.address, log={"level": "warning"}))  # and it learns from the next one
    assert reloaded.last()["result"] == "accepted"


@pytest.mark.parametrize("content", ["", "listeners: [", "\x00", "- a list"])
def test_file_that_is_no_config(reloaded: Reloaded, callers: Callers, content: str) -> None:
    reloaded.change(content, "rejected")
    assert reloaded.last()["reasons"]


def test_port_that_is_taken(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    """All or nothing: a listener that cannot be bound leaves everything as it was."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = config_of(app.address, listener={"routes": [{"match": {"path": "/nowhere"}, "cluster": "app"}]})
        for name, port in {"free": 0, "taken": taken.getsockname()[1]}.items():
            config["listeners"].append({"name": name, "address": f"127.0.0.1:{port}", "routes": [{"cluster": "app"}]})
        reloaded.change(config, "rejected")
    assert "cannot listen on" in reloaded.last()["reasons"][0]
    assert list(reloaded.process.listening()) == ["in"]
    callers.go_on(20)


# --- what has a state of its own ---


LIMIT = {"requests": 2, "per": "1h"}


def statuses(process: Meshlet, count: int, path: str = "/headers") -> list[int]:
    with process.client() as client:
        return [client.get(path).status for _ in range(count)]


def test_a_spent_bucket_stays_spent(reloaded: Reloaded, app: ExampleApp) -> None:
    """Or every reload would let a burst through. A limit that changes begins anew."""
    limited = {"match": {"path": "/headers"}, "cluster": "app", "rate_limit": LIMIT}
    process = reloaded.process
    reloaded.change(config_of(app.address, listener={"routes": [limited, {"cluster": "app"}]}))
    assert statuses(process, 3) == [200, 200, 429]
    before = {"match": {"path": "/status/204"}, "cluster": "app"}
    reloaded.change(config_of(app.address, listener={"routes": [before, limited | {"timeout": "1s"}]}))
    assert statuses(process, 1) == [429]
    reloaded.change(config_of(app.address, listener={"routes": [limited | {"rate_limit": LIMIT | {"burst": 1}}]}))
    assert statuses(process, 2) == [200, 429]


def test_new_weights_take_effect_at_once(reloaded: Reloaded, app: ExampleApp, stack: ExitStack) -> None:
    """On a connection from before, with the very next request."""
    other = stack.enter_context(ExampleApp())

    def split(app_weight: int, other_weight: int) -> Config:
        shares = [{"cluster": "app", "weight": app_weight}, {"cluster": "other", "weight": other_weight}]
        clusters = [{"name": "app", "endpoints": [app.address]}, {"name": "other", "endpoints": [other.address]}]
        return config_of(app.address, listener={"routes": [{"split": shares}]}, clusters=clusters)

    def requests() -> list[float]:
        return [reloaded.process.metric("meshlet_requests_total", cluster=name) for name in ("app", "other")]

    reloaded.change(split(1, 0))
    with reloaded.process.client() as client:
        for _ in range(20):
            client.get()
        assert requests() == [20, 0]
        reloaded.change(split(0, 1))
        for _ in range(20):
            client.get()
        assert requests() == [20, 20]


def test_who_is_ejected_stays_ejected(reloaded: Reloaded, app: ExampleApp) -> None:
    """An unchanged cluster keeps what it has learnt; a changed one finds out again."""
    gone = free_address()
    details = {"consecutive_local_failures": 1, "base_ejection_time": "5m"}
    clusters = [{"name": "app", "endpoints": [app.address, gone], "outlier_detection": details}]
    process = reloaded.process

    def state() -> dict[str, str]:
        [cluster] = process.get("/clusters?format=json").json()
        return {endpoint["address"]: endpoint["state"] for endpoint in cluster["endpoints"]}

    reloaded.change(config_of(app.address, clusters=clusters))
    assert set(statuses(process, 4)) == {200}  # by retries: no connection could be made
    assert state() == {app.address: "available", gone: "ejected"}
    reloaded.change(
        config_of(app.address, clusters=clusters, listener={"routes": [{"cluster": "app", "timeout": "1s"}]})
    )
    assert state() == {app.address: "available", gone: "ejected"}
    assert process.metric("meshlet_cluster_ejections_total") == 1
    reloaded.change(config_of(app.address, clusters=[clusters[0] | {"connect_timeout": "1s"}]))
    assert state() == {app.address: "available", gone: "available"}


def test_a_filter_that_cannot_be_loaded(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    bad = {"cluster": "app", "filters": [{"buffer": {}}, {"python": "no.such.module:Filter"}]}
    reloaded.change(config_of(app.address, listener={"routes": [bad]}), "rejected")
    [reason] = reloaded.last()["reasons"]
    assert "listeners[0].routes[0].filters[1]: found a filter that cannot be loaded (no module named no:" in reason
    callers.go_on(20)
    reloaded.change(config_of(app.address, listener={"routes": [{"cluster": "app", "filters": [{"buffer": {}}]}]}))
    assert statuses(reloaded.process, 1) == [200]


def test_unchanged(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    reloaded.change(config_of(app.address), "unchanged")


def test_folder_vanishes_and_comes_back(reloaded: Reloaded, callers: Callers, app: ExampleApp) -> None:
    process = reloaded.process
    reloaded.map.vanish()
    process.signal(signal.SIGHUP)
    until(lambda: reloaded.reloads("rejected") == 1)
    assert "no such file" in reloaded.last()["reasons"][0]
    callers.go_on(50)
    reloaded.change(config_of(app.address, listener={"routes": [{"match": {"path": "/"}, "cluster": "app"}]}))
    with process.client() as client:
        assert client.get("/headers").status == 404


def test_what_is_gone_is_said_once(app: ExampleApp, tmp_path: Path) -> None:
    reloaded = Reloaded(tmp_path, config_of(app.address), "swap")
    with running(reloaded.process):
        process = reloaded.process.started()
        reloaded.map.vanish()
        until(lambda: "not there any more" in process.stderr)
        reloaded.change(config_of(app.address, log={"level": "debug"}))
        assert process.stderr.count("not there any more") == 1
        assert process.stderr.count("there again") == 1


def test_flags_have_no_file(app: ExampleApp, tmp_path: Path) -> None:
    process = Meshlet(["--listen", "127.0.0.1:0", "--app", app.address], tmp_path)
    with running(process):
        process.started()
        process.signal(signal.SIGHUP)
        until(lambda: "there is no file to read again" in process.stderr)
        with Client(process.listeners["inbound"]) as client:
            assert client.get().status == 200
