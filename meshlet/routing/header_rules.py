"""Changes to the field lines of a head.

Most fields that rules name are not in the head yet. So the head is searched once, as a whole, and its lines are looked
at one by one only where that has found the name. Names are compared as CGI-like environments read them: an app there
would take `x_user` for the `X-User` that a rule has removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from meshlet.http.grammar import OWS, cgi_names
from meshlet.http.template import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlet.config.schema import HeaderRules
    from meshlet.http.template import Facts, Template


class Rules:
    """Compiled rules. `needs_upstream`: some of them can only be applied once an endpoint has been chosen."""

    __slots__ = ("_changes", "_lines", "_looks", "_marks", "constant", "needs_upstream")

    def __init__(self, changes: Iterable[_Change]) -> None:
        self._changes = tuple(changes)
        self._looks = any(type(change) is not _Add for change in self._changes)
        self.needs_upstream = any(change.needs_upstream for change in self._changes)
        #: they depend on nothing but the head
        self.constant = all(not isinstance(change, _Add) or change.line is not None for change in self._changes)
        # Most rules are constant, and most set fields that are not there: these lines are all they come to then.
        self._marks = tuple(change.mark for change in self._changes if isinstance(change, _Set | _Remove))
        self._lines: list[bytes] | None = None
        if self.constant and not any(isinstance(change, _Set) and change.again for change in self._changes):
            self._lines = [change.line for change in self._changes if isinstance(change, _Add) and change.line]

    def apply(self, lines: list[bytes], facts: Facts) -> None:
        """Change the lines of a head in place; the first one, the start line, stays."""
        head = cgi_names(b"\n".join(lines)) if self._looks else b""
        if self._lines is not None:
            for mark in self._marks:
                if mark in head:
                    break
            else:
                lines += self._lines
                return
        for change in self._changes:
            change.apply(lines, head, facts)


def compile_rules(rules: HeaderRules) -> Rules:
    """Compile rules, in the order that the docstring of config.HeaderRules gives."""
    added: set[str] = set()  # names that the head may have, though it had not when it was searched

    def again(name: str) -> bool:
        known = name.lower() in added
        added.add(name.lower())
        return known

    sets = [_Set(name, value, again=again(name)) for name, value in rules.set.items()]
    appends = [_Append(name, value, again=again(name)) for name, value in rules.append.items()]
    adds = [_Add(name, value) for name, value in rules.add.items()]
    return Rules((*map(_Remove, rules.remove), *sets, *appends, *adds))


def split_rules(rules: HeaderRules) -> tuple[Rules | None, Rules | None]:
    """Compile the rules for a request: those for once, and those for each try, when its endpoint is known.

    All rules for a name are among the latter where one of them is, so that their order is kept. None stands for no
    rules at all.
    """
    late = {
        name.lower()
        for values in (rules.set, rules.append, rules.add)
        for name, value in values.items()
        if parse(value).needs_upstream
    }
    return _some(_only(rules, late, among=False)), _some(_only(rules, late, among=True))


def _only(rules: HeaderRules, names: set[str], *, among: bool) -> HeaderRules:
    def of(values: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in values.items() if (name.lower() in names) is among}

    remove = tuple(name for name in rules.remove if (name.lower() in names) is among)
    return replace(rules, remove=remove, set=of(rules.set), append=of(rules.append), add=of(rules.add))


def _some(rules: HeaderRules) -> Rules | None:
    return compile_rules(rules) if rules.remove or rules.set or rules.append or rules.add else None


# --- one change ---


class _Change(Protocol):
    needs_upstream: bool

    def apply(self, lines: list[bytes], head: bytes, facts: Facts) -> None:
        """Change `lines`; `head` is what they were at first, in lower case, each but the first after a line feed."""


class _Remove:
    __slots__ = ("_start", "mark", "needs_upstream")

    def __init__(self, name: str) -> None:
        self._start = cgi_names(name.encode()) + b":"
        self.mark = b"\n" + self._start
        self.needs_upstream = False

    def apply(self, lines: list[bytes], head: bytes, facts: Facts) -> None:
        if self.mark in head:
            _without(lines, self._start)


class _Add:
    __slots__ = ("_name", "_template", "line", "needs_upstream")

    def __init__(self, name: str, value: str) -> None:
        self._template: Template = parse(value)
        self._name = name.encode()
        constant = self._template.constant
        self.line = b"%b: %b" % (self._name, constant) if constant is not None else None
        self.needs_upstream = self._template.needs_upstream

    def apply(self, lines: list[bytes], head: bytes, facts: Facts) -> None:
        line = self.line or self._rendered(facts)
        if line is not None:
            lines.append(line)

    def _rendered(self, facts: Facts) -> bytes | None:
        value = self._template.render(facts)
        return b"%b: %b" % (self._name, value) if value else None


class _Set(_Add):
    __slots__ = ("again", "mark")

    def __init__(self, name: str, value: str, *, again: bool) -> None:
        super().__init__(name, value)
        self.mark = b"\n%b:" % cgi_names(name.encode())
        self.again = again  # an earlier change is of the same name

    def apply(self, lines: list[bytes], head: bytes, facts: Facts) -> None:
        line = self.line or self._rendered(facts)
        if line is not None:
            if self.again or self.mark in head:
                _without(lines, self.mark[1:])
            lines.append(line)


class _Append(_Set):
    __slots__ = ()

    def apply(self, lines: list[bytes], head: bytes, facts: Facts) -> None:
        line = self.line or self._rendered(facts)
        if line is None:
            return
        if self.again or self.mark in head:
            start = self.mark[1:]
            size = len(start)
            for index in range(len(lines) - 1, 0, -1):
                if cgi_names(lines[index][:size]) == start:
                    before = lines[index].rstrip(OWS)
                    if len(before) > size:  # an empty field is no list to append to
                        line = b"%b, %b" % (before, line[size:].lstrip(OWS))
                    lines[index] = line
                    return
        lines.append(line)


def _without(lines: list[bytes], start: bytes) -> None:
    size = len(start)
    lines[1:] = [line for line in lines[1:] if cgi_names(line[:size]) != start]
