"""A podman of the test's own: its images, containers and networks live in one folder, the machine's are not touched."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import pip_settings, tools

if TYPE_CHECKING:
    from collections.abc import Iterator

MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"

# runc and cgroupfs run everywhere, also under a mixed cgroup layout without systemd.
# Locks in files: those in shared memory would be shared with the machine's own podman.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=16384:16384"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
lock_type = "file"
tmp_dir = "{folder}/libpod"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""


class Podman:
    """Runs podman and buildah on the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
            (folder / name).write_text(text.format(folder=folder))
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            # podman runs probes by timers of systemd and with curl in the container: neither may be there.
            "DISABLE_HC_SYSTEMD": "true",
        }

    def __call__(self, *arguments: str | Path, timeout: float = 60) -> str:
        """Run a podman command and return what it prints."""
        return tools.run("podman", *arguments, timeout=timeout, env=self.environment)

    def logs(self, container: str) -> str:
        """What the container wrote so far."""
        return tools.run("podman", "logs", container, env=self.environment, both=True)

    def inspect(self, container: str) -> dict[str, object]:
        """What podman knows of a container's state."""
        state: dict[str, object] = json.loads(self("inspect", "--format", "{{json .State}}", container))
        return state

    def import_base(self, name: str) -> None:
        """Make the image that a Dockerfile starts from: a small Debian with Python, which needs no image registry."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self("import", "--change", f"ENV {path}", _debian(), name, timeout=120)

    def build(self, source: Path, base: str, name: str) -> None:
        """Build the Dockerfile in `source` with buildah, with pip set up as it is on this machine."""
        mounts = pip_settings.mounts(self.folder)
        volumes = [f"--volume={here}:{there}:ro" for there, here in mounts.items()]
        arguments = ["--network=host", f"--build-arg=BASE={base}", f"--tag={name}"]
        tools.run("buildah", "bud", *arguments, *volumes, source, timeout=300, env=self.environment)

    @contextmanager
    def network(self, name: str) -> Iterator[str]:
        """A bridge of the test's own."""
        self("network", "create", "--disable-dns", name)
        try:
            yield name
        finally:
            self("network", "rm", "--force", name)

    def remove_all(self) -> None:
        """Remove every Pod, image and volume, and the folder."""
        self("pod", "rm", "--all", "--force")
        self("volume", "prune", "--force")
        self("rmi", "--all", "--force")
        shutil.rmtree(self.folder)


def _debian() -> Path:
    """The files of a small Debian as a tar file: made by debootstrap in about a minute, then kept for later runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshlet-tests"
    tar = cache / f"{SUITE}-{PACKAGES.replace(',', '-')}.tar"
    if tar.exists():
        return tar
    cache.mkdir(parents=True, exist_ok=True)
    root, unfinished = cache / f"root-{os.getpid()}", cache / f"unfinished-{os.getpid()}.tar"
    leave_out = ["./dev/*", "./proc/*", "./sys/*", "./var/cache/apt/*", "./var/lib/apt/lists/*"]
    try:
        tools.run(
            "debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root, MIRROR, timeout=420, both=True
        )
        tools.run("tar", f"--directory={root}", *(f"--exclude={it}" for it in leave_out), "-cf", unfinished, ".")
        unfinished.replace(tar)  # at once: another run may look for it
    finally:
        shutil.rmtree(root, ignore_errors=True)
        unfinished.unlink(missing_ok=True)
    return tar
