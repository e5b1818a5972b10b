"""This machine's pip settings, to be taken into a container: the image's pip shall find the same packages."""

from __future__ import annotations

import ast
import configparser
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tests.support import tools

if TYPE_CHECKING:
    from collections.abc import Mapping

CERTIFICATES = Path("/etc/ssl/certs")

# What settings refer to. Those that are lists separate their values by white space.
_PATHS = {"cert", "client-cert"}
_LISTS = {"build-constraint", "constraint", "extra-index-url", "find-links", "index-url", "requirement"}
_INDEXES = {"extra-index-url", "index-url"}
_REQUIREMENTS = {"build-constraint", "constraint", "requirement"}
# Where this machine's pip installs and writes: not for the image.
_LEFT_OUT = {"cache-dir", "log", "prefix", "python", "report", "root", "src", "target", "user"}
# Where no setting says whom to trust, pip's libraries look here, in this order.
_TRUST = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")

# What a file of requirements or constraints refers to: further ones, places of packages, single packages.
_FURTHER = re.compile(r"^\s*(?:-[rc]|--requirement|--constraint)[= \t]*(\S+)", re.MULTILINE)
_PLACE = re.compile(r"^\s*(?:-f|--find-links)[= \t]*(\S+)|(file:\S+)", re.MULTILINE)


def mounts(folder: Path) -> dict[str, Path]:
    """Return what to mount read-only, as {path in the container: path here}; `folder` gets a file of its own."""
    taken = Taken(tools.run(sys.executable, "-m", "pip", "config", "list"), os.environ)
    file = folder / "pip.conf"
    with file.open("w") as stream:
        taken.settings.write(stream)
    return {"/etc/pip.conf": file} | taken.mounts()


class Taken:
    """The settings that `pip config list` and the environment's variables tell of, and the paths they refer to."""

    def __init__(self, listed: str, environment: Mapping[str, str]) -> None:
        self.settings = configparser.RawConfigParser()
        self._paths = {CERTIFICATES}
        of_environment: dict[str, str] = {}
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            section, _, name = key.rpartition(".")
            text = str(ast.literal_eval(value))
            if section == ":env:":
                of_environment[name] = text
            else:
                self._take(section, name, text)
        for name, text in of_environment.items():
            # They win over every section, as they do in pip itself.
            for section in self.settings.sections():
                self.settings.remove_option(section, name)
            self._take("global", name, text)
        if not any(self.settings.has_option(section, "cert") for section in self.settings.sections()):
            trusted = next((path for path in map(environment.get, _TRUST) if path and Path(path).exists()), None)
            if trusted is not None:
                self._take("global", "cert", trusted)

    def mounts(self) -> dict[str, Path]:
        """What exists of the paths, as {path in the container: path here}; nothing within what is there already."""
        there = {path for path in self._paths if path.exists() and path != Path("/")}
        mounts = {}
        for path in sorted(there):
            target = path.resolve()
            around = next((folder for folder in path.parents if folder in there), None)
            if around is None:
                mounts[str(path)] = target
            elif not target.is_relative_to(around.resolve()):
                mounts[str(target)] = target  # a link that leads out of the folder that is there
        return mounts

    def _take(self, section: str, name: str, text: str) -> None:
        if name in _LEFT_OUT:
            return
        if name in _PATHS:
            text = self._place(text)
        elif name in _LISTS:
            text = "\n".join(self._refer(name, word) for word in text.split())
        if not self.settings.has_section(section):
            self.settings.add_section(section)
        self.settings.set(section, name, text)

    def _refer(self, name: str, word: str) -> str:
        """Take what a word refers to along, and return the word as the container has to have it."""
        if word.startswith("file:"):
            path = _path_of(word)
        elif "://" in word:
            return word
        else:
            word = self._place(word)
            path = Path(word)
        self._paths.add(path)
        if (name in _INDEXES or (name == "find-links" and path.is_file())) and len(path.parts) > 3:
            # Its pages link to files beside it. A folder of the system, such as /opt, the container needs itself.
            self._paths.add(path.parent)
        if name in _REQUIREMENTS:
            self._follow(path, set())
        return word

    def _place(self, word: str) -> str:
        """Take a path along, and return it without what depends on where pip runs."""
        path = Path(word).expanduser().absolute()
        if not path.exists():
            return word
        self._paths.add(path)
        return str(path)

    def _follow(self, file: Path, seen: set[Path]) -> None:
        """Take along what a file of requirements or constraints refers to, relative to where it is."""
        seen.add(file)
        if not file.is_file():
            return
        text = file.read_text(errors="replace")
        for place, url in _PLACE.findall(text):
            self._paths.add(_path_of(url or place, file.parent))
        for word in _FURTHER.findall(text):
            further = _path_of(word, file.parent)
            self._paths.add(further)
            if further not in seen:
                self._follow(further, seen)


def _path_of(word: str, folder: Path = Path("/")) -> Path:
    """The path that a `file:` URL or a path names, seen from a folder."""
    name = url2pathname(urlsplit(word).path) if word.startswith("file:") else word
    return Path(os.path.normpath(folder / name))
