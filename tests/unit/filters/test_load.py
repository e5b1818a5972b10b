from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from meshlet.config.schema import Buffer as BufferConfig
from meshlet.config.schema import Compression as CompressionConfig
from meshlet.config.schema import Filter as Written
from meshlet.config.units import Duration, Size
from meshlet.filters import Filter
from meshlet.filters.buffer import Buffer
from meshlet.filters.compression import Compression
from meshlet.filters.load import FilterLoadError, load_filter

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import dataclasses
import msgspec
from meshlet.config.units import Duration, Size
from meshlet.filters import Filter

class NoConfig(Filter):
    pass

class Limit(msgspec.Struct):
    rate: int

class Structured(Filter):
    class Config(msgspec.Struct):
        limits: list[Limit]
        timeout: Duration = Duration(1.0)
        size: Size = Size(5)

class Plain(Filter):
    @dataclasses.dataclass
    class Config:
        name: str = "x"

class Mapping(Filter):
    Config = dict[str, int]

class Fails(Filter):
    def __init__(self):
        raise OSError("no\\nsuch file")

NUMBER = 5
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given_filters.py").write_text(MODULE)
    (tmp_path / "given_broken.py").write_text("1 / 0\n")
    (tmp_path / "given_needs.py").write_text("import given_not_there\n")
    (tmp_path / "given_syntax.py").write_text("def\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("given_filters", "given_broken", "given_needs", "given_syntax"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def load(name: str, config: Any = None) -> Filter:
    return load_filter(Written(python=name if ":" in name else f"given_filters:{name}", config=config))


def test_the_built_in_filters() -> None:
    assert isinstance(load_filter(Written(buffer=BufferConfig())), Buffer)
    assert isinstance(load_filter(Written(compression=CompressionConfig())), Compression)


def test_a_filter_without_config() -> None:
    made = load("NoConfig")
    assert type(made).__name__ == "NoConfig"
    assert made.config is None


def test_a_config_is_converted() -> None:
    config = load("Structured", {"limits": [{"rate": 3}], "timeout": "250ms", "size": "2KiB"}).config
    assert config.limits[0].rate == 3
    assert (config.timeout, config.size) == (Duration(0.25), Size(2048))
    assert load("Plain", {"name": "y"}).config.name == "y"
    assert load("Plain").config.name == "x"
    assert load("Mapping", {"a": 1}).config == {"a": 1}


def test_each_place_gets_an_object_of_its_own() -> None:
    assert load("NoConfig") is not load("NoConfig")


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        (
            "given_missing:A",
            None,
            "no module named given_missing: it must be installed, or its folder be in PYTHONPATH",
        ),
        (
            "given_filters.inner:A",
            None,
            "no module named given_filters.inner: it must be installed, or its folder be in PYTHONPATH",
        ),
        (
            "given_needs:A",
            None,
            "given_needs cannot be imported: ModuleNotFoundError: No module named 'given_not_there'",
        ),
        ("given_broken:A", None, "given_broken cannot be imported: ZeroDivisionError: division by zero"),
        (
            "given_syntax:A",
            None,
            "given_syntax cannot be imported: SyntaxError: invalid syntax (given_syntax.py, line 1)",
        ),
        ("NoConfg", None, 'given_filters has no class NoConfg (did you mean "NoConfig"?)'),
        ("Zzzzzzz", None, "given_filters has no class Zzzzzzz"),
        ("NUMBER", None, "given_filters:NUMBER is not a subclass of meshlet.filters.Filter"),
        ("Limit", None, "given_filters:Limit is not a subclass of meshlet.filters.Filter"),
        ("Filter", None, "given_filters:Filter is not a subclass of meshlet.filters.Filter"),
        ("NoConfig", {"a": 1}, "config: NoConfig takes none"),
        ("Structured", None, "config: object missing required field limits"),
        ("Structured", {"limits": [{"rate": "x"}]}, "config.limits[0].rate: expected int, got str"),
        ("Structured", {"limits": [], "timeout": 5}, "config.timeout: expected a duration such as 250ms, 2s, 5m or 1h"),
        ("Structured", {"limts": []}, "config: found the key 'limts', which Config has not (did you mean \"limits\"?)"),
        ("Structured", [1], "config: expected object, got array"),
        ("Plain", {"nme": "y"}, "config: found the key 'nme', which Config has not (did you mean \"name\"?)"),
        ("Mapping", {"a": "b"}, "config[...]: expected int, got str"),
        ("Fails", None, "Fails cannot be made: OSError: no such file"),
    ],
)
def test_why_a_filter_cannot_be_loaded(name: str, config: Any, says: str) -> None:
    with pytest.raises(FilterLoadError) as caught:
        load(name, config)
    assert str(caught.value) == says


def test_the_current_directory_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "given_here.py").write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    with pytest.raises(FilterLoadError, match="no module named given_here"):
        load("given_here:A")


@pytest.mark.parametrize(("algorithm", "package"), [("br", "brotli"), ("zstd", "zstandard")])
def test_a_package_that_is_missing(algorithm: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FilterLoadError) as caught:
        load_filter(Written(compression=CompressionConfig(algorithms=(algorithm,))))
    says = f"the algorithm {algorithm} needs the package {package}: pip install 'meshlet[compression]'"
    assert str(caught.value) == says


def test_packages_are_imported_only_where_they_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("brotli", "zstandard"):
        monkeypatch.setitem(sys.modules, package, None)
    load_filter(Written(compression=CompressionConfig(algorithms=("gzip",))))
