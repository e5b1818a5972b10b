"""YAML text to nodes that know their line.

PyYAML's own composer is not used: it recurses in C, so that a file of many brackets overruns the
stack, it forgets which scalars were quoted or tagged, and it reads YAML 1.1, where `no` is false and
`1:30` is 90. Here a plain scalar is a number, a truth value or nothing only where YAML 1.1 and 1.2
agree on it; everything else is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.reader import Reader as _YamlReader

from meshlet.config.mistakes import quoted

MAX_DEPTH = 50
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?")
_WORDS = {word: value for name, value in (("true", True), ("false", False), ("null", None)) for word in
          (name, name.title(), name.upper())} | {"": None, "~": None}  # fmt: skip


class NotYaml(Exception):
    """The text cannot be read as one YAML document: `line`, what was `found` and what was `expected`."""

    def __init__(self, line: int, found: str, expected: str) -> None:
        super().__init__(line, found, expected)
        self.line = line
        self.found = found
        self.expected = expected


class TooDeep(NotYaml):
    """A value on `line` stands in more than MAX_DEPTH others."""

    def __init__(self, line: int) -> None:
        super().__init__(line, f"more than {MAX_DEPTH} levels of nesting", "fewer")


class Node:
    """A value of the document and the line, from 1, that it starts on."""

    __slots__ = ("line",)

    def __init__(self, line: int) -> None:
        self.line = line

    @property
    def shown(self) -> str:
        """The value as an error message names it."""
        raise NotImplementedError


class Scalar(Node):
    """`value` is None, a bool, an int, a float or a str; `text` is what the file says."""

    __slots__ = ("text", "value")

    def __init__(self, line: int, text: str, *, plain: bool) -> None:
        super().__init__(line)
        self.text = text
        self.value = _resolve(text) if plain else text

    @property
    def shown(self) -> str:
        if self.value is None:
            return "nothing"
        return quoted(self.text) if isinstance(self.value, str) else self.text[:60]


class Sequence(Node):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.items: list[Node] = []

    @property
    def shown(self) -> str:
        return "a list"


class Mapping(Node):
    """Keys and values in the order of the file, duplicates included."""

    __slots__ = ("entries",)

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.entries: list[tuple[Node, Node]] = []

    @property
    def shown(self) -> str:
        return "a mapping"


def parse(text: str) -> Node:
    """The one document in `text`, or an empty scalar where there is none. Raises NotYaml."""
    control = _YamlReader.NON_PRINTABLE.search(text)
    if control is not None:
        raise NotYaml(_line_at(text, control.start()), f"the character {control.group()!a}", "printable text")
    try:
        return _Composer(text).document()
    except yaml.MarkedYAMLError as error:
        raise _too_deep_before(error, text) or _syntax_error(error, text) from error


class _Composer:
    """Builds the nodes from libyaml's events; an alias becomes the very node that its anchor names."""

    def __init__(self, text: str) -> None:
        self._parser = yaml.CSafeLoader(text)
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node:
        next_event = self._parser.get_event
        next_event()  # the start of the stream
        if isinstance(next_event(), yaml.StreamEndEvent):
            return Scalar(1, "", plain=True)
        node = self._node(next_event(), 0)
        next_event()  # the end of the document
        further = next_event()
        if not isinstance(further, yaml.StreamEndEvent):
            raise NotYaml(_line(further), "a second YAML document", "one document in a file")
        return node

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            raise NotYaml(_line(event), f"the YAML tag {quoted(event.tag)}", "a value without a tag")
        if depth > MAX_DEPTH:
            raise TooDeep(_line(event))
        node = self._value(event, depth)
        if event.anchor is not None:
            # Only now: an alias inside its own anchor, which would never end, is so an unknown one.
            self._anchors[event.anchor] = node
        return node

    def _value(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(_line(event), event.value, plain=event.implicit[0])
        if isinstance(event, yaml.SequenceStartEvent):
            sequence = Sequence(_line(event))
            while not isinstance(event := self._parser.get_event(), yaml.SequenceEndEvent):
                sequence.items.append(self._node(event, depth + 1))
            return sequence
        mapping = Mapping(_line(event))
        while not isinstance(event := self._parser.get_event(), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            mapping.entries.append((key, self._node(self._parser.get_event(), depth + 1)))
        return mapping

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise NotYaml(
                _line(event), f"the alias {quoted('*' + event.anchor)}", "an anchor of that name that ended before it"
            )
        return node


def _resolve(text: str) -> bool | int | float | str | None:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _line_at(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _too_deep_before(error: yaml.MarkedYAMLError, text: str) -> TooDeep | None:
    """What is too deep in the text before a syntax error, if anything is.

    libyaml reads up to 1,024 characters of a line ahead, and some releases stop at a depth of their own there, before
    the composer has got the first of these levels.
    """
    try:
        _Composer(text[: error.problem_mark.index] if error.problem_mark else "").document()
    except TooDeep as too_deep:
        return too_deep
    except (NotYaml, yaml.YAMLError):
        pass  # the cut has made it: only what is too deep stays so
    return None


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> NotYaml:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    # libyaml puts what never ends (a quote, a bracket) on the line after the last one.
    lines = text.splitlines() or [""]
    line = min(line, len(lines))
    problem = f"{error.context}: {error.problem}" if error.context else str(error.problem)
    if error.context_mark and error.context_mark.line + 1 != line:
        problem += f" (begun on line {error.context_mark.line + 1})"
    return NotYaml(line, f"a YAML error ({problem})", _syntax_advice(lines[line - 1]))


def _syntax_advice(line: str) -> str:
    """What to do about the three slips that libyaml's own words do not explain."""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return "spaces, not tabs, at the start of the line"
    if re.search(r"[\s:,\[]\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]:\d", line):
        return "quotes around an IPv6 address"
    if re.search(r"[:,\[-]\s+[*@`%&!]", line):
        return "quotes around a value that starts with * @ ` % & or !"
    return "valid YAML"
