"""The commands `validate` and `schema`, and the group that loads a command only when it is called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import meshlet
from meshlet.cli.main import COMMANDS, main
from meshlet.config.load import ConfigError, load

CONFIGS = Path(__file__).parents[3] / "config"
BAD = """\
listeners:
  - {name: in, address: 127.0.0.1:8000, routes: [{cluster: ap}]}
clusters:
  - {name: app, endpoints: []}
"""
BAD_LINES = [
    ":2: listeners[0].routes[0].cluster: found 'ap', expected the name of a cluster (did you mean \"app\"?)",
    ":4: clusters[0].endpoints: found an empty list, expected a list that is not empty, or discovery in its place",
]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="meshlet")


def output_of(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=CONFIGS.parent).stdout


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    return str(path)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("minimal.yaml", "1 listener, 1 cluster, 1 route"),
        ("sidecar.yaml", "2 listeners, 3 clusters, 4 routes"),
        ("routing.yaml", "1 listener, 5 clusters, 9 routes"),
        ("resilience.yaml", "2 listeners, 4 clusters, 7 routes"),
    ],
)
def test_a_good_file(name: str, counts: str) -> None:
    result = run("validate", str(CONFIGS / name))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{CONFIGS / name}: ok, {counts}\n"


def test_a_bad_file(bad: str) -> None:
    result = run("validate", bad)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [bad + line for line in BAD_LINES]


FILTERS = """\
listeners:
  - name: in
    address: 127.0.0.1:0
    filters:
      - python: examples.filters.no_such_filter:Filter
    routes:
      - cluster: app
        filters:
          - buffer: {max_bytes: 1MiB}
          - python: json:JSONDecoder
          - python: broken_filter:Broken
          - python: broken_filter:Strict
            config: {limit: many}
          - python: broken_filter:Strict
            config: {limit: 5}
          - python: broken_filter:Strict
            config: {limit: 5, limit: 6}
clusters:
  - {name: app, endpoints: ["127.0.0.1:1"]}
"""
FILTER_LINES = [
    ":5: listeners[0].filters[0]: found a filter that cannot be loaded (no module named "
    "examples.filters.no_such_filter: it must be installed, or its folder be in PYTHONPATH), expected one that can be",
    ":10: listeners[0].routes[0].filters[1]: found a filter that cannot be loaded (json:JSONDecoder is not a subclass "
    "of meshlet.filters.Filter), expected one that can be",
    ":11: listeners[0].routes[0].filters[2]: found a filter that cannot be loaded (Broken cannot be made: OSError: no "
    "key file), expected one that can be",
    ":12: listeners[0].routes[0].filters[3]: found a filter that cannot be loaded (config.limit: expected int, got "
    "str), expected one that can be",
    ":17: listeners[0].routes[0].filters[5].config.limit: found the key a second time (first on line 17), expected "
    "each key once",
]
BROKEN = """\
import msgspec
from meshlet.filters import Filter

class Broken(Filter):
    def __init__(self):
        raise OSError("no key file")

class Strict(Filter):
    class Config(msgspec.Struct):
        limit: int

    def __init__(self, config):
        self.limit = config.limit
"""


@pytest.fixture
def bad_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "broken_filter.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "filters.yaml"
    path.write_text(FILTERS)
    return str(path)


@pytest.mark.parametrize("command", [["validate"], ["run", "--config"]])
def test_filters_that_cannot_be_loaded(bad_filters: str, command: list[str]) -> None:
    result = run(*command, bad_filters)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [bad_filters + line for line in FILTER_LINES]


def test_the_loader_alone_loads_no_filter(bad_filters: str) -> None:
    """Whoever only wants to look at a config runs nobody's code."""
    with pytest.raises(ConfigError) as caught:
        load(bad_filters)
    assert str(caught.value) == bad_filters + FILTER_LINES[-1]


DOUBTFUL = """\
listeners:
  - name: in
    address: 127.0.0.1:0
    cluster: app
    limits: {max_body: 1MiB}
    routes: [{match: {prefix: /admin}, direct_response: {status: 403}}, {cluster: app}]
clusters:
  - {name: app, endpoints: ["127.0.0.1:1"]}
"""
DOUBT = (
    "listeners[0].cluster: what is not HTTP goes to app past limits.max_body, routes; leave `cluster` out to have it "
    "refused"
)


def test_rules_and_a_cluster_that_is_not_held_to_them(tmp_path: Path) -> None:
    path = tmp_path / "doubtful.yaml"
    path.write_text(DOUBTFUL)
    result = run("validate", str(path))
    assert (result.exit_code, result.stdout) == (0, f"{path}: ok, 1 listener, 1 cluster, 2 routes\n")
    assert result.stderr == f"{path}: warning: {DOUBT}\n"
    report = json.loads(run("validate", "--output", "json", str(path)).stdout)
    assert (report["ok"], report["warnings"]) == (True, [DOUBT])


def test_a_file_that_is_not_there() -> None:
    result = run("validate", "no/such.yaml")
    assert result.exit_code == 2
    assert result.stderr == "no/such.yaml: (top level): found no such file, expected a config file; check the path\n"


def test_a_good_file_as_json() -> None:
    path = str(CONFIGS / "minimal.yaml")
    result = run("validate", path, "--output", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "file": path, "ok": True, "listeners": 1, "clusters": 1, "routes": 1, "mistakes": [], "warnings": [],
    }  # fmt: skip


def test_a_bad_file_as_json(bad: str) -> None:
    result = run("validate", "--output", "json", bad)
    assert (result.exit_code, result.stderr) == (2, "")
    report = json.loads(result.stdout)
    assert (report["file"], report["ok"], len(report["mistakes"])) == (bad, False, 2)
    assert report["mistakes"][0] == {
        "source": bad,
        "line": 2,
        "path": "listeners[0].routes[0].cluster",
        "found": "'ap'",
        "expected": "the name of a cluster",
        "near": "app",
    }


def test_schema_is_json_schema() -> None:
    result = run("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_help_lists_the_commands_in_their_order() -> None:
    result = run("--help")
    assert result.exit_code == 0
    positions = [result.stdout.index(f"  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    assert {"run", "validate", "schema", "demo"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", ["", "validate", "schema"])
def test_help_has_an_example(name: str) -> None:
    result = run(*filter(None, [name]), "--help")
    assert result.exit_code == 0
    assert f"Example: meshlet {name}" in result.stdout


def test_shell_completion_knows_the_commands() -> None:
    assert main.list_commands(click.Context(main)) == list(COMMANDS)


def test_version() -> None:
    assert run("--version").stdout == f"meshlet, version {meshlet.__version__}\n"


def test_an_unknown_command() -> None:
    result = run("walidate")
    assert result.exit_code == 2
    assert "No such command 'walidate'" in result.stderr


def test_short_help_of_a_command_is_not_asked_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> click.Command:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr("meshlet.cli.main.import_module", refuse)
    assert run("--help").exit_code == 0


def test_a_good_config_costs_no_import_that_only_mistakes_need() -> None:
    script = (
        "import sys; from meshlet.config.load import load; load(sys.argv[1]);"
        "print(sorted({'asyncio', 'difflib', 'aiohttp', 'uvloop'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", script, str(CONFIGS / "sidecar.yaml")]
    assert output_of(command) == "[]\n"


def test_python_dash_m() -> None:
    command = [sys.executable, "-m", "meshlet", "validate", str(CONFIGS / "minimal.yaml")]
    assert output_of(command).endswith("1 route\n")
