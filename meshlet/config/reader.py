"""YAML nodes to the structs of `schema`, noting every mistake instead of stopping at the first.

What a mistake leaves open is filled with the default, or with a blank of the right shape, so that
the checks that follow can still look at the rest; nothing of it is ever used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import inspect

from meshlet.config.mistakes import Mistake, Path, dotted, nearest, quoted
from meshlet.config.nodes import Mapping, Node, NotYaml, Scalar, Sequence
from meshlet.config.scalars import read_scalar

# A file may repeat an anchored list through aliases, lists within lists; this is where it stops being a config.
_MAX_VALUES = 250_000

# Stands for a value that could not be read.
_BLANK: Any = None


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
        self._values = 0

    def read(self, struct: type, node: Node) -> Any:
        """The struct that the node describes. Raises NotYaml where aliases repeat too much of the file."""
        return self._convert(inspect.type_info(struct), node, _Context(()))

    def mistake(self, path: Path, found: str, expected: str, near: str = "") -> None:
        """Note a mistake about the value at `path`; it counts as doubtful from now on."""
        self._doubtful.add(path)
        self.mistakes.append(Mistake(self._source, self.line(path), dotted(path), found, expected, near))

    def sure(self, path: Path) -> bool:
        """Tell whether neither the value at `path` nor one around it is mistaken."""
        return not any(path[:length] in self._doubtful for length in range(len(path) + 1))

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
        first_lines: dict[str, int] = {}
        unknown: list[str] = []
        for key_node, value in node.entries:
            key = key_node.text if isinstance(key_node, Scalar) else key_node.shown
            path = (*around, key)
            if key in first_lines:
                self._lines[path] = key_node.line
                self.mistake(path, f"the key a second time (first on line {first_lines[key]})", "each key once")
                continue
            first_lines[key] = self._lines[path] = key_node.line
            if key in names:
                entries[key] = value
            else:
                unknown.append(key)
        for key in unknown:
            self._unknown(key, around, [name for name in names if name not in entries], names)
        return entries

    def _unknown(self, key: str, around: Path, missing: list[str], names: list[str]) -> None:
        if key == "<<":
            self.mistake((*around, key), "a merge key", "the keys themselves; YAML 1.2 has no merge keys")
            return
        near = nearest(key, missing) or nearest(key, names)
        self.mistake((*around, key), f"the unknown key {quoted(key)}", f"one of {', '.join(names)}", near)
        if near in missing:
            # The key that was meant is not missing too: one slip, one line.
            self._doubtful.add((*around, near))

    def _tuple(self, kind: inspect.VarTupleType, node: Node, context: _Context) -> Any:
        if not isinstance(node, Sequence):
            self._unfit(node, context, "a list")
            return ()
        if kind.min_length and len(node.items) < kind.min_length:
            self._unfit(node, context, "a list that is not empty", found="an empty list")
        return tuple(
            self._convert(kind.item_type, item, context._replace(path=(*context.path, index)))
            for index, item in enumerate(node.items)
        )

    def _scalar(self, kind: inspect.Type, node: Node, context: _Context) -> Any:
        try:
            value = read_scalar(kind, node)
            if context.check is not None:
                context.check(value)
        except ValueError as error:
            near = ""
            if isinstance(kind, inspect.LiteralType) and isinstance(node, Scalar):
                near = nearest(node.text, map(str, kind.values))
            return self._unfit(node, context, str(error), near=near)
        return value

    def _unfit(self, node: Node, context: _Context, expected: str, *, found: str = "", near: str = "") -> Any:
        self._lines[context.path] = node.line
        self.mistake(context.path, found or node.shown, expected, near)
        return _BLANK


def described(field: inspect.Field) -> str:
    """The description of a struct's field."""
    extra = field.type.extra_json_schema if isinstance(field.type, inspect.Metadata) else None
    return str((extra or {}).get("description", ""))


def bare(kind: inspect.Type) -> inspect.Type:
    """The type itself, without what is annotated to it."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


_SHAPE_NAMES: dict[type[Node], str] = {Mapping: "a mapping", Sequence: "a list", Scalar: "text"}


def _shape(kind: inspect.Type) -> type[Node]:
    kind = bare(kind)
    if isinstance(kind, inspect.StructType):
        return Mapping
    return Sequence if isinstance(kind, inspect.VarTupleType) else Scalar


def _blank(kind: inspect.Type) -> Any:
    return () if isinstance(bare(kind), inspect.VarTupleType) else _BLANK
