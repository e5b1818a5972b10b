"""The real programs that system tests run: curl, nginx, podman and their like."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REQUIRED = "MESHLET_REQUIRE_SYSTEM_TOOLS"
# Debian keeps daemons and network tools in folders that are not on everybody's path.
_SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def require(name: str) -> str:
    """Return the path of a program, or skip the test; where MESHLET_REQUIRE_SYSTEM_TOOLS=1, fail it instead."""
    path = shutil.which(name, path=_SYSTEM_PATH)
    if path is None:
        _missing(f"needs the program `{name}`, which is not installed")
    return path


def run(
    program: str, *arguments: str | Path, timeout: float = 60, env: Mapping[str, str] | None = None, both: bool = False
) -> str:
    """Run a required program to its end and return its stdout (with `both`, stderr too); it must succeed."""
    command = [require(program), *arguments]
    stderr = subprocess.STDOUT if both else subprocess.PIPE
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=timeout,
        env=env,
        encoding="utf-8",
        errors="replace",
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout[-8000:]}\n{done.stderr or ''}"
    return done.stdout


def require_root() -> None:
    """Skip or fail, as `require` does, unless the test runs as root."""
    if os.geteuid() != 0:
        _missing("needs root")


def _missing(reason: str) -> NoReturn:
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason}, and {REQUIRED}=1", pytrace=False)
    pytest.skip(reason)
