"""YAML nodes to the structs of `schema`, noting every mistake instead of stopping at the first.

What a mistake leaves open is filled with the default, or with a blank of the right shape, so that
the checks that follow can still look at the rest; nothing of it is ever used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from msgspec import inspect

from meshlet.config.mistakes import Mistake, Path, dotted, nearest, quoted
from meshlet.config.nodes import MAX_DEPTH, Mapping, Node, NotYaml, Scalar, Sequence, TooDeep
from meshlet.config.other_names import ours
from meshlet.config.scalars import read_scalar

# A file may repeat an anchored list through aliases, lists within lists; this is where it stops being a config.
_MAX_VALUES = 250_000

# Stands for a value that could not be read.
_BLANK: Any = None

_ANY_LIST = inspect.VarTupleType(inspect.AnyType())
_ANY_DICT = inspect.DictType(inspect.StrType(), inspect.AnyType())


class _Context(NamedTuple):
    """What surrounds a value: where it is, and the check that its scalars must pass."""

    path: Path
    check: Callable[[Any], None] | None = None


class Reader:
    """Reads one document; afterwards `mistakes` tells what is wrong with it."""

    def __init__(self, source: str) -> None:
        self.mistakes: list[Mistake] = []
        self._source = source
        self._lines: dict[Path, int] = {}
        self._doubtful: set[Path] = set()
        self._misunderstood: set[Path] = set()
        self._values = 0

    def read(self, struct: type, node: Node) -> Any:
        """The struct that the node describes. Raises NotYaml where aliases repeat or nest too much of the file."""
        return self._convert(inspect.type_info(struct), node, _Context(()))

    def mistake(self, path: Path, found: str, expected: str, near: str = "") -> None:
        """Note a mistake about the value at `path`; it counts as doubtful from now on."""
        self._doubtful.add(path)
        self.mistakes.append(Mistake(self._source, self.line(path), dotted(path), found, expected, near))

    def sure(self, path: Path) -> bool:
        """Tell whether neither the value at `path` nor one around it is mistaken."""
        return not any(path[:length] in self._doubtful for length in range(len(path) + 1))

    def sound(self, path: Path) -> bool:
        """Tell whether the value at `path` is sure, and everything within it too."""
        return self.sure(path) and not any(doubtful[: len(path)] == path for doubtful in self._doubtful)

    def misunderstood(self, path: Path) -> bool:
        """Tell whether the mapping at `path` has unknown keys, so that what is missing may have been meant by them."""
        return path in self._misunderstood

    def given(self, path: Path) -> bool:
        """Tell whether the file has a value at `path`, rather than leaving it to the default."""
        return path in self._lines

    def line(self, path: Path) -> int:
        """The line of the value, or of the nearest one around it where the file has none."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _convert(self, kind: inspect.Type, node: Node, context: _Context) -> Any:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise NotYaml(node.line, f"more than {_MAX_VALUES} values, aliases followed", "fewer")
        if len(context.path) > MAX_DEPTH:
            # No single value of the file is so deep: aliases have put them into each other.
            raise TooDeep(node.line)
        self._lines[context.path] = node.line
        if isinstance(kind, inspect.Metadata):
            check = (kind.extra or {}).get("check", context.check)
            return self._convert(kind.type, node, context._replace(check=check))
        if isinstance(kind, inspect.UnionType):
            return self._union(kind, node, context)
        if isinstance(kind, inspect.StructType):
            return self._struct(kind, node, context)
        if isinstance(kind, inspect.VarTupleType):
            return self._tuple(kind, node, context)
        if isinstance(kind, inspect.DictType):
            return self._dict(kind, node, context)
        if isinstance(kind, inspect.AnyType):
            return self._any(node, context)
        return self._scalar(kind, node, context)

    def _union(self, kind: inspect.UnionType, node: Node, context: _Context) -> Any:
        if isinstance(node, Scalar) and node.value is None and kind.includes_none:
            return None
        options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
        fitting = [option for option in options if isinstance(node, _shape(option))]
        if fitting or len(options) == 1:
            return self._convert((fitting or options)[0], node, context)
        expected = " or ".join(_SHAPE_NAMES[_shape(option)] for option in options)
        return self._unfit(node, context, expected)

    def _struct(self, kind: inspect.StructType, node: Node, context: _Context) -> Any:
        if isinstance(node, Mapping):
            entries = self._entries(node, kind, context.path)
        else:
            self._unfit(node, context, f"a mapping with {', '.join(field.name for field in kind.fields)}")
            entries = {}
        read = {}
        for field in kind.fields:
            path = (*context.path, field.name)
            if field.name in entries:
                value = self._convert(field.type, entries[field.name], _Context(path))
                if path in self._doubtful and not field.required:
                    continue
                read[field.name] = value
            elif field.required:
                if self.sure(path):
                    self.mistake(path, "nothing", f"this key, which is required: {described(field)}")
                read[field.name] = _blank(field.type)
        return kind.cls(**read)

    def _entries(self, node: Mapping, kind: inspect.StructType, around: Path) -> dict[str, Node]:
        """The mapping's values by key, after a word about every key that cannot stand there."""
        names = [field.name for field in kind.fields]
        entries: dict[str, Node] = {}
        unknown: list[str] = []
        for key, _, value in self._keys(node, around):
            if key in names:
                entries[key] = value
            else:
                unknown.append(key)
        for key in unknown:
            self._unknown(key, around, kind, entries)
        return entries

    def _keys(self, node: Mapping, around: Path) -> Iterator[tuple[str, Node, Node]]:
        """Each key of a mapping with its node and its value, after a word about every one that no mapping can have."""
        first_lines: dict[str, int] = {}
        for key_node, value in node.entries:
            key = key_node.text if isinstance(key_node, Scalar) else key_node.shown
            path = (*around, key)
            self._lines[path] = key_node.line
            if key in first_lines:
                self.mistake(path, f"the key a second time (first on line {first_lines[key]})", "each key once")
                continue
            first_lines[key] = key_node.line
            if key == "<<":
                self.mistake(path, "a merge key", "the keys themselves; YAML 1.2 has no merge keys")
            else:
                yield key, key_node, value

    def _unknown(self, key: str, around: Path, kind: inspect.StructType, entries: dict[str, Node]) -> None:
        names = [field.name for field in kind.fields]
        missing = [name for name in names if name not in entries]
        near = _meant(key, kind, missing)
        self._misunderstood.add(around)
        # Beside a guess, a list of two dozen keys would only hide it.
        expected = "a known one" if near else f"one of {', '.join(names)}"
        self.mistake((*around, key), f"the unknown key {quoted(key)}", expected, near)
        meant = near.partition(".")[0]
        if meant in missing:
            # The key that was meant is not missing too: one slip, one line.
            self._doubtful.add((*around, meant))

    def _tuple(self, kind: inspect.VarTupleType, node: Node, context: _Context) -> Any:
        if not isinstance(node, Sequence):
            self._unfit(node, context, "a list" + _brackets(kind.item_type, node))
            return ()
        if kind.min_length and len(node.items) < kind.min_length:
            self._unfit(node, context, "a list that is not empty", found="an empty list")
        return tuple(
            self._convert(kind.item_type, item, context._replace(path=(*context.path, index)))
            for index, item in enumerate(node.items)
        )

    def _dict(self, kind: inspect.DictType, node: Node, context: _Context) -> Any:
        if not isinstance(node, Mapping):
            self._unfit(node, context, "a mapping")
            return {}
        read: dict[str, Any] = {}
        for key, key_node, value in self._keys(node, context.path):
            path = (*context.path, key)
            # What a key must be is said of the key itself, on its own line.
            before = len(self.mistakes)
            self._convert(kind.key_type, Scalar(key_node.line, key, plain=False), _Context(path))
            if len(self.mistakes) == before:
                read[key] = self._convert(kind.value_type, value, _Context(path))
        return read

    def _any(self, node: Node, context: _Context) -> Any:
        """A value that somebody else knows the type of, as plain Python."""
        if isinstance(node, Scalar):
            return node.value
        kind = _ANY_LIST if isinstance(node, Sequence) else _ANY_DICT
        value = self._convert(kind, node, context)
        return list(value) if isinstance(value, tuple) else value

    def _scalar(self, kind: inspect.Type, node: Node, context: _Context) -> Any:
        try:
            value = read_scalar(kind, node)
            if context.check is not None:
                context.check(value)
        except ValueError as error:
            near = ""
            if isinstance(kind, inspect.LiteralType) and isinstance(node, Scalar):
                near = nearest(node.text, (value for value in kind.values if isinstance(value, str)))
            return self._unfit(node, context, str(error), near=near)
        return value

    def _unfit(self, node: Node, context: _Context, expected: str, *, found: str = "", near: str = "") -> Any:
        self._lines[context.path] = node.line
        self.mistake(context.path, found or node.shown, expected, near)
        return _BLANK


def _meant(key: str, kind: inspect.StructType, missing: list[str]) -> str:
    """The key that was probably meant by an unknown one, or where it belongs, or an empty string."""
    names = [field.name for field in kind.fields]
    peers = ours(key)
    if peers.partition(".")[0] in names:
        return peers
    inside = [f"{field.name}.{key}" for field in kind.fields if key in _names_inside(field.type)]
    # Conditions beside `match` instead of in it are the commonest slip of all.
    if f"match.{key}" in inside:
        return f"match.{key}"
    return inside[0] if len(inside) == 1 else nearest(key, missing) or nearest(key, names)


def _names_inside(kind: inspect.Type) -> list[str]:
    kind = bare(kind)
    if isinstance(kind, inspect.UnionType):
        return [name for option in kind.types for name in _names_inside(option)]
    return [field.name for field in kind.fields] if isinstance(kind, inspect.StructType) else []


def described(field: inspect.Field) -> str:
    """The description of a struct's field."""
    extra = field.type.extra_json_schema if isinstance(field.type, inspect.Metadata) else None
    return str((extra or {}).get("description", ""))


def bare(kind: inspect.Type) -> inspect.Type:
    """The type itself, without what is annotated to it."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def _brackets(kind: inspect.Type, node: Node) -> str:
    """Advice for whoever wrote one value, or several with commas, where a list of such values is asked for."""
    kind = bare(kind)
    shapes = map(_shape, kind.types) if isinstance(kind, inspect.UnionType) else [_shape(kind)]
    if not isinstance(node, Scalar) or not node.text or node.value is None or Scalar not in shapes:
        return ""
    items = ", ".join(item.strip() for item in node.text.split(","))
    return f"; put it in brackets: [{items[:60]}]" if items.isprintable() else ""


_SHAPE_NAMES: dict[type[Node], str] = {Mapping: "a mapping", Sequence: "a list", Scalar: "text"}


def _shape(kind: inspect.Type) -> type[Node]:
    kind = bare(kind)
    if isinstance(kind, inspect.StructType | inspect.DictType):
        return Mapping
    return Sequence if isinstance(kind, inspect.VarTupleType) else Scalar


def _blank(kind: inspect.Type) -> Any:
    if isinstance(bare(kind), inspect.DictType):
        return {}
    return () if isinstance(bare(kind), inspect.VarTupleType) else _BLANK
