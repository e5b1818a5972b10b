"""This machine's pip settings, to be taken into a container: the image's pip shall find the same packages."""

from __future__ import annotations

import ast
import configparser
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tests.support import tools

CERTIFICATES = Path("/etc/ssl/certs")


def mounts(folder: Path) -> dict[Path, str]:
    """Return what to mount read-only, as {path here: path in the container}; `folder` gets a file of its own."""
    settings = _settings()
    file = folder / "pip.conf"
    with file.open("w") as stream:
        settings.write(stream)
    paths = {file: "/etc/pip.conf"}
    if CERTIFICATES.is_dir():
        paths[CERTIFICATES] = str(CERTIFICATES)
    for section in settings.values():
        for word in " ".join(section.values()).split():
            path = _folder(word)
            if path is not None:
                paths[path] = str(path)
    return paths


def _settings() -> configparser.RawConfigParser:
    """All levels of pip's configuration in one; the environment's variables win, as they do in pip itself."""
    listed = tools.run(sys.executable, "-m", "pip", "config", "list")
    settings = configparser.RawConfigParser()
    # pip names the environment's section `:env:` and lists it first: last here.
    for line in reversed(listed.splitlines()):
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        section = "global" if section == ":env:" else section
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, name, str(ast.literal_eval(value)))
    return settings


def _folder(word: str) -> Path | None:
    """Return the folder that a setting refers to, if it is one of this machine's."""
    if word.startswith("file://"):
        # An index's pages link to files beside it.
        path = Path(url2pathname(urlsplit(word).path)).parent
    elif word.startswith("/"):
        path = Path(word)
    else:
        return None
    return path if path.is_dir() and path != Path("/") else None
