from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "meshlet.telemetry.access_log",
        "meshlet.telemetry.exposition",
        "meshlet.telemetry.log",
        "meshlet.telemetry.metrics",
        "meshlet.admin.health",
        "meshlet.admin.server",
    ],
)
def test_what_every_run_imports_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*(sys.modules.keys() & {{'aiohttp', 'prometheus_client'}}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
