"""deploy/pod.yaml, as it is and with its config changed while it runs, in a real Pod under podman."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

import meshlet
from tests.support import tools
from tests.support.podman import Podman

PROJECT = Path(__file__).parents[2]
POD_YAML = PROJECT / "deploy" / "pod.yaml"
IMAGE = "localhost/meshlet-test:latest"
APP, MESHLET = "meshlet-example-app", "meshlet-example-meshlet"
PORT, HEALTH_PORT, APP_PORT = 15006, 15021, 8080
GRACE = 30

needs_podman = pytest.mark.system("podman", "buildah", "runc", "catatonit", "debootstrap", "tar", root=True)
Document = dict[str, Any]


def documents() -> dict[str, Document]:
    return {document["kind"]: document for document in yaml.safe_load_all(POD_YAML.read_text())}


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    podman = Podman(tmp_path_factory.mktemp("podman"))
    try:
        podman.import_base("localhost/meshlet-test-base")
        podman.build(PROJECT, base="localhost/meshlet-test-base", name=IMAGE)
        yield podman
    finally:
        podman.remove_all()


@pytest.fixture
def play(podman: Podman, tmp_path: Path) -> Iterator[Callable[[dict[str, Document]], str]]:
    """Start the Pod with the image under test and return its address; end it with the test."""

    def start(documents: dict[str, Document]) -> str:
        for container in documents["Pod"]["spec"]["containers"]:
            container["image"] = IMAGE
            container.pop("ports", None)  # podman would publish them on every address of this machine
        file = tmp_path / "pod.yaml"
        file.write_text(yaml.safe_dump_all(documents.values()))
        podman("kube", "play", "--network", network, file)
        networks = json.loads(podman("inspect", "--format", "{{json .NetworkSettings.Networks}}", infra()))
        address: str = networks[network]["IPAddress"]
        wait_for(lambda: get(address, "/healthz/ready", HEALTH_PORT)[0] == 200, lambda: podman.logs(MESHLET))
        return address

    def infra() -> str:
        pod = documents()["Pod"]["metadata"]["name"]
        return podman("pod", "inspect", "--format", "{{.InfraContainerID}}", pod).strip()

    with podman.network("meshlet-test") as network:
        try:
            yield start
        finally:
            podman("pod", "rm", "--all", "--force")


def get(address: str, path: str, port: int = PORT) -> tuple[int, str]:
    """The status and the body, or 0 and why there is none."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], explain: Callable[[], object] = str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


def status_of(podman: Podman, container: str) -> dict[str, str]:
    """/proc/1/status in the container."""
    text = podman("exec", container, "cat", "/proc/1/status")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_the_pod_is_valid_for_kubernetes() -> None:
    tools.run(str(Path(sys.executable).with_name("kubernetes-validate")), "--strict", POD_YAML, both=True)


def test_the_pod_names_the_image_of_this_version() -> None:
    images = {container["image"] for container in documents()["Pod"]["spec"]["containers"]}
    assert images == {f"localhost/meshlet:{meshlet.__version__}"}


@needs_podman
def test_the_app_is_reached_through_meshlet_alone(podman: Podman, play: Callable[[dict[str, Document]], str]) -> None:
    address = play(documents())

    status, body = get(address, "/headers?from=outside")
    assert status == 200
    assert "x-request-id" in {name.lower() for name in json.loads(body)}
    assert get(address, "/", APP_PORT)[0] == 0, "the app is reached directly"

    for container, user in ((APP, "1000"), (MESHLET, "1337")):
        process = status_of(podman, container)
        assert process["Uid"].split() == [user] * 4
        assert process["Gid"].split() == [user] * 4
        assert {process[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert process["NoNewPrivs"] == "1"
        mounts = podman("exec", container, "cat", "/proc/1/mounts").splitlines()
        assert [line.split()[3].split(",")[0] for line in mounts if line.split()[1] == "/"] == ["ro"]

    def logged() -> str:
        return podman("exec", APP, "cat", "/var/log/meshlet/access.log")

    wait_for(lambda: "/headers?from=outside" in logged(), logged)
    assert all(json.loads(line) for line in logged().splitlines())

    # A request on its way when the end comes gets its whole answer.
    with closing(http.client.HTTPConnection(address, PORT, timeout=10)) as client:
        client.request("GET", "/stream?lines=4&interval=0.5")
        answer = client.getresponse()
        assert answer.readline() == b"line 1\n"
        began = time.monotonic()
        # meshlet before the app, as the app's preStop has it under Kubernetes, and the network last:
        # `podman pod stop` would take it away at once.
        podman("stop", "--time", str(GRACE), MESHLET, timeout=GRACE + 20)
        took = time.monotonic() - began
        assert answer.read() == b"line 2\nline 3\nline 4\n"
        podman("stop", "--time", str(GRACE), APP, timeout=GRACE + 20)
    assert [podman.inspect(container)["ExitCode"] for container in (APP, MESHLET)] == [0, 0], podman.logs(MESHLET)
    assert took < GRACE


@needs_podman
def test_a_change_of_the_config_map_is_taken_up(
    podman: Podman, play: Callable[[dict[str, Document]], str], tmp_path: Path
) -> None:
    kinds = documents()
    config = kinds.pop("ConfigMap")["data"]["meshlet.yaml"]
    mounted = ConfigMapFolder(tmp_path / "config", {"meshlet.yaml": config})
    volumes = kinds["Pod"]["spec"]["volumes"]
    volumes[0] = {"name": "config", "hostPath": {"path": str(mounted.path), "type": "Directory"}}
    address = play(kinds)
    assert get(address, "/")[0] == 200

    mounted.swap({"meshlet.yaml": config.replace("{prefix: /}", "{prefix: /status}")})
    wait_for(lambda: get(address, "/")[0] == 404, lambda: get(address, "/"))
    assert get(address, "/status/418")[0] == 418

    mounted.swap({"meshlet.yaml": "listeners: none of it"})
    wait_for(lambda: "/etc/meshlet/meshlet.yaml:1" in podman.logs(MESHLET), lambda: podman.logs(MESHLET))
    assert [get(address, "/")[0], get(address, "/status/418")[0]] == [404, 418]

    mounted.swap({"meshlet.yaml": config})
    wait_for(lambda: get(address, "/")[0] == 200, lambda: get(address, "/"))


class ConfigMapFolder:
    """A folder as the kubelet lays out a ConfigMap: a new version is written aside, then one rename swaps to it.

    meshlet.yaml -> ..data/meshlet.yaml, ..data -> ..2026_1
    """

    def __init__(self, path: Path, files: dict[str, str]) -> None:
        self.path = path
        self._version = 0
        for folder in (path.parent, path):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)  # users 1000 and 1337 read it
        self.swap(files)
        for name in files:
            (path / name).symlink_to(f"..data/{name}")

    def swap(self, files: dict[str, str]) -> None:
        self._version += 1
        version = self.path / f"..2026_{self._version}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
        link = self.path / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.path / "..data")
        for old in self.path.glob("..2026_*"):
            if old != version:
                for file in old.iterdir():
                    file.unlink()
                old.rmdir()
