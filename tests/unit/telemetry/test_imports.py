from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from meshlet.example_app import ExampleApp
from tests.support.processes import config_of, meshlet

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"aiohttp", "opentelemetry", "prometheus_client", "rich"}


@pytest.mark.parametrize(
    "module",
    [
        "meshlet.telemetry.access_log",
        "meshlet.telemetry.explain.ring",
        "meshlet.telemetry.exposition",
        "meshlet.telemetry.log",
        "meshlet.telemetry.metrics",
        "meshlet.telemetry.tap",
        "meshlet.admin.health",
        "meshlet.admin.server",
    ],
)
def test_what_every_run_imports_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*(sys.modules.keys() & {HEAVY}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_what_redacts_bodies_is_loaded_for_a_tap_alone() -> None:
    code = "import sys, meshlet.runtime.plane; print(*(name for name in sys.modules if name.startswith('meshlet.')))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "meshlet.telemetry.tap.hub" in loaded
    assert {"meshlet.telemetry.tap.body", "meshlet.telemetry.redact_multipart"}.isdisjoint(loaded)


def test_a_run_without_telemetry_loads_no_heavy_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # each import is a line on stderr
    with ExampleApp() as app:
        config = config_of(app.address)
        del config["admin"]
        with meshlet(tmp_path, config) as process:
            with process.client() as client:
                assert client.get().status == 200
            process.stop()
            loaded = set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\w+)", process.stderr, re.MULTILINE))
    assert {"meshlet", "uvloop"} <= loaded
    assert loaded & HEAVY == set()
