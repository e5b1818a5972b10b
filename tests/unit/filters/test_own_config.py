"""What a filter class may call its `Config`: any type that msgspec knows, and a clear mistake for everything else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from meshlet.cli.validate import command
from meshlet.config.schema import Filter as Written
from meshlet.filters import Filter
from meshlet.filters.load import FilterLoadError, load_filter

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import abc
import collections
import dataclasses
import enum
import msgspec
import typing
from meshlet.config.units import Duration
from meshlet.filters import Filter

T = typing.TypeVar("T")

class Limit(msgspec.Struct):
    rate: int
    burst: int = 1

@dataclasses.dataclass
class Settings:
    limits: list[Limit] = dataclasses.field(default_factory=list)
    named: dict[str, Limit] = dataclasses.field(default_factory=dict)
    one: Limit | None = None

class Keys(typing.TypedDict):
    a: int
    limit: typing.NotRequired[Limit]

class Pair(typing.NamedTuple):
    limit: Limit
    name: str = ""

class Box(msgspec.Struct, typing.Generic[T]):
    of: T

class Cat(msgspec.Struct, tag_field="kind", tag="cat"):
    lives: int = 9

class Dog(msgspec.Struct, tag_field="kind", tag="dog"):
    tricks: int = 0

class Color(enum.Enum):
    RED = "red"

class Renamed(msgspec.Struct, rename="kebab"):
    max_rate: int = 1

class Strict(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 1

class Row(msgspec.Struct, array_like=True):
    limit: Limit

class Arbitrary:
    pass

class Holds(msgspec.Struct):
    it: Arbitrary

class Lost(msgspec.Struct):
    it: "Nowhere"

class Checked(msgspec.Struct):
    a: int = 1
    def __post_init__(self):
        raise KeyError("a\\nb")

class Guarded(msgspec.Struct):
    a: int = 1
    def __post_init__(self):
        raise ValueError("a must be even")

class Abstract(abc.ABC):
    pass

def function(): pass

class Method(Filter):
    def Config(self): pass

class Asked(Filter):
    @property
    def Config(self): pass
"""

#: what `Config` is, what stands in the file, and what comes of it
WORKS: list[tuple[str, Any, Any]] = [
    ("dict[str, int]", {"a": 1}, {"a": 1}),
    ("dict[str, int]", None, {}),
    ("dict", {"a": "b"}, {"a": "b"}),
    ("typing.Dict[str, int]", {"a": 1}, {"a": 1}),
    ("collections.abc.Mapping[str, int]", {"a": 1}, {"a": 1}),
    ("list[int]", [1, 2], [1, 2]),
    ("tuple[int, ...]", [1, 2], (1, 2)),
    ("frozenset[str]", ["a"], frozenset("a")),
    ("int", 5, 5),
    ("Duration", "250ms", 0.25),
    ("typing.Union[int, str]", "a", "a"),
    ("int | None", None, None),
    ("type(None)", None, None),
    ("typing.Any", [1, {"a": None}], [1, {"a": None}]),
    ("typing.Any", None, {}),
    ('typing.NewType("Name", str)', "a", "a"),
    ('typing.Literal["a", "b"]', "b", "b"),
    ("typing.Annotated[int, msgspec.Meta(ge=1)]", 1, 1),
    ("Keys", {"a": 1}, {"a": 1}),
    ("None", None, None),
]

#: those whose object is shown
OBJECTS = [
    ("Limit", {"rate": 3}, "Limit(rate=3, burst=1)"),
    ("Limit | None", {"rate": 3}, "Limit(rate=3, burst=1)"),
    ('typing.NewType("Other", Limit)', {"rate": 3}, "Limit(rate=3, burst=1)"),
    ("typing.Annotated[Limit, 'why']", {"rate": 3}, "Limit(rate=3, burst=1)"),
    ("Settings", None, "Settings(limits=[], named={}, one=None)"),
    ("Settings", {"limits": [{"rate": 1}]}, "Settings(limits=[Limit(rate=1, burst=1)], named={}, one=None)"),
    ("Box[Limit]", {"of": {"rate": 1}}, "Box(of=Limit(rate=1, burst=1))"),
    ("Pair", [{"rate": 1}, "b"], "Pair(limit=Limit(rate=1, burst=1), name='b')"),
    ("Cat | Dog", {"kind": "dog", "tricks": 2}, "Dog(tricks=2)"),
    ("Color", "red", "<Color.RED: 'red'>"),
    ("Renamed", {"max-rate": 2}, "Renamed(max_rate=2)"),
    ("Row", [{"rate": 1}], "Row(limit=Limit(rate=1, burst=1))"),
]

NO_TYPE = "Given.Config is no type that a config can be converted to, such as a dataclass or msgspec.Struct: "

MISTAKES = [
    ("function", None, f"{NO_TYPE}TypeError: Type '<function function at "),
    ("lambda self: Limit", None, f"{NO_TYPE}TypeError: Type '<function "),
    ("Limit(3)", None, f"{NO_TYPE}TypeError: Type 'Limit(rate=3, burst=1)' is not supported"),
    ("5", 5, f"{NO_TYPE}TypeError: Type '5' is not supported"),
    ("{}", {}, f"{NO_TYPE}TypeError: Type '{{}}' is not supported"),
    ("False", None, f"{NO_TYPE}TypeError: Type 'False' is not supported"),
    ('"Limit"', None, f"{NO_TYPE}TypeError: Type '"),
    ('typing.ForwardRef("Limit")', None, f"{NO_TYPE}TypeError: Type 'ForwardRef('Limit')' is not supported"),
    ("typing", None, f"{NO_TYPE}TypeError: Type '<module 'typing' from"),
    ("Lost", None, f"{NO_TYPE}NameError: name 'Nowhere' is not defined"),
    ('typing.TypedDict("Gone", {"a": "Nowhere"})', {"a": 1}, f"{NO_TYPE}NameError: name 'Nowhere' is not defined"),
    ("typing.Union[Settings, Limit]", None, f"{NO_TYPE}TypeError: Type unions may not contain more than one dict-like"),
    ("Arbitrary", {}, "config: the type Arbitrary is none that a config can be converted to"),
    ("Abstract", {}, "config: the type Abstract is none that a config can be converted to"),
    ("object", {}, "config: the type object is none that a config can be converted to"),
    ("type[Limit]", {}, "config: the type "),
    ("typing.Callable[[int], int]", {}, "config: the type "),
    ("Holds", {"it": 1}, "config.it: the type Arbitrary is none that a config can be converted to"),
    ("Checked", None, "config: Given.Config cannot be made: KeyError: 'a\\nb'"),
    ("Guarded", None, "config: a must be even"),
    ("None", {"a": 1}, "config: Given takes none"),
    ("dict[str, int]", {"a": "b"}, "config[...]: expected int, got str"),
    ("dict[str, int]", [1], "config: expected object, got array"),
    ("list[int]", None, "config: expected array, got null"),
    ("int", None, "config: expected int, got null"),
    ("Keys", None, "config: object missing required field a"),
    ("typing.Annotated[int, msgspec.Meta(ge=1)]", 0, "config: expected int >= 1"),
    # keys that nothing has, wherever they stand
    ("Limit | None", {"rat": 3}, "config: found the key 'rat', which Limit has not (did you mean \"rate\"?)"),
    ("Keys", {"a": 1, "b": 1}, "config: found the key 'b', which Keys has not"),
    ("Keys", {"a": 1, "limit": {"rate": 1, "x": 1}}, "config.limit: found the key 'x', which Limit has not"),
    ("Settings", {"limits": [{"rate": 1}, {"rat": 1}]}, "config.limits[1]: found the key 'rat', which Limit has not"),
    ("Settings", {"named": {"a": {"rat": 1}}}, "config.named.a: found the key 'rat', which Limit has not"),
    ("Settings", {"one": {"rat": 1}}, "config.one: found the key 'rat', which Limit has not"),
    ("list[Limit]", [{"rat": 1}], "config[0]: found the key 'rat', which Limit has not"),
    ("dict[str, list[Limit]]", {"a": [{"rat": 1}]}, "config.a[0]: found the key 'rat', which Limit has not"),
    ("tuple[int, Limit]", [1, {"rat": 1}], "config[1]: found the key 'rat', which Limit has not"),
    ("Pair", [{"rat": 1}], "config[0]: found the key 'rat', which Limit has not"),
    ("Row", [{"rat": 1}], "config[0]: found the key 'rat', which Limit has not"),
    ("Box[Limit]", {"of": {"rat": 1}}, "config.of: found the key 'rat', which Limit has not"),
    ("Cat | Dog", {"kind": "dog", "lives": 2}, "config: found the key 'lives', which Dog has not"),
    ("Cat | Dog", {"kind": "cow"}, "config.kind: invalid value 'cow'"),
    (
        "Renamed",
        {"max_rate": 2},
        "config: found the key 'max_rate', which Renamed has not (did you mean \"max-rate\"?)",
    ),
    ("Strict", {"b": 2}, "config: found the key 'b', which Strict has not"),
]

if sys.version_info >= (3, 12):
    MODULE += "\ntype Alias = dict[str, Limit]\ntype Plain = Limit\n"
    OBJECTS += [("Plain", {"rate": 3}, "Limit(rate=3, burst=1)")]
    MISTAKES += [("Alias", {"a": {"rat": 1}}, "config.a: found the key 'rat', which Limit has not")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "given_config", raising=False)
    return tmp_path


def write(folder: Path, written: str) -> None:
    (folder / "given_config.py").write_text(f"{MODULE}\nclass Given(Filter):\n    Config = {written}\n")


def load(folder: Path, written: str, config: Any) -> Filter:
    write(folder, written)
    return load_filter(Written(python="given_config:Given", config=config))


@pytest.mark.parametrize(("written", "config", "value"), WORKS)
def test_whatever_msgspec_knows_works(folder: Path, written: str, config: Any, value: Any) -> None:
    assert load(folder, written, config).config == value


@pytest.mark.parametrize(("written", "config", "shown"), OBJECTS)
def test_classes_are_made(folder: Path, written: str, config: Any, shown: str) -> None:
    assert repr(load(folder, written, config).config) == shown


@pytest.mark.parametrize(("written", "config", "says"), MISTAKES)
def test_everything_else_is_a_mistake_of_one_line(folder: Path, written: str, config: Any, says: str) -> None:
    with pytest.raises(FilterLoadError) as caught:
        load(folder, written, config)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Method", "Asked"])
def test_a_method_of_that_name(folder: Path, name: str) -> None:
    write(folder, "None")
    with pytest.raises(FilterLoadError, match=rf"{name}\.Config is no type that a config can be converted to"):
        load_filter(Written(python=f"given_config:{name}"))


@pytest.mark.parametrize(
    ("written", "config", "status", "says"),
    [
        ("dict[str, int]", "{a: 1}", 0, ""),
        ("dict[str, int]", "{a: b}", 2, "(config[...]: expected int, got str)"),
        ("Limit | None", "{rate: b}", 2, "(config.rate: expected int, got str)"),
        ("function", "{}", 2, "(Given.Config is no type"),
    ],
)
def test_validate_names_the_place(folder: Path, written: str, config: str, status: int, says: str) -> None:
    write(folder, written)
    file = folder / "c.yaml"
    file.write_text(
        "listeners:\n  - name: in\n    address: 127.0.0.1:8000\n    routes: [{cluster: app}]\n"
        f"    filters:\n      - python: given_config:Given\n        config: {config}\n"
        "clusters: [{name: app, endpoints: [127.0.0.1:8080]}]\n"
    )
    result = CliRunner().invoke(command, [str(file)])
    assert result.exit_code == status, result.output
    if says:
        assert f"{file}:6: listeners[0].filters[0]: found a filter that cannot be loaded {says}" in result.output
