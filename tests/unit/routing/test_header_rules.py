from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.config.schema import HeaderRules
from meshlet.http.head import RequestHead, ResponseHead
from meshlet.routing.header_rules import compile_rules, split_rules


@dataclass
class Known:
    head: RequestHead = field(
        default_factory=lambda: RequestHead(b"GET", b"/", 1, [b"GET / HTTP/1.1", b"Host: app", b"X-User: alice"])
    )
    response_head: ResponseHead | None = None
    remote: str = "192.0.2.7:4711"
    local: str = "192.0.2.1:80"
    upstream_host: str | None = None
    cluster_name: str | None = None
    route_name: str | None = None
    attempts: int = 0
    started_wall: float = 0.0


def applied(rules: HeaderRules, *fields: str) -> list[str]:
    lines = [b"GET / HTTP/1.1", *(line.encode() for line in fields)]
    same = lines
    compile_rules(rules).apply(lines, Known())
    assert lines is same
    assert lines[0] == b"GET / HTTP/1.1"
    return [line.decode() for line in lines[1:]]


def rules(**keys: Any) -> HeaderRules:
    return HeaderRules(**keys)


@pytest.mark.parametrize(
    ("keys", "before", "after"),
    [
        ({"remove": ("X-A",)}, ["x-a: 1", "b: 2", "X-a:3"], ["b: 2"]),
        ({"remove": ("a",)}, ["x-a: 1", "ab: 2", "b: a: 3"], ["x-a: 1", "ab: 2", "b: a: 3"]),
        ({"set": {"X-A": "1"}}, [], ["X-A: 1"]),
        ({"set": {"X-A": "1"}}, ["x-a: 2", "b: 2", "X-a:3"], ["b: 2", "X-A: 1"]),
        ({"append": {"X-A": "1"}}, ["b: 2"], ["b: 2", "X-A: 1"]),
        ({"append": {"X-A": "3"}}, ["x-a: 1 ", "b: 2"], ["x-a: 1, 3", "b: 2"]),
        ({"append": {"X-A": "3"}}, ["x-a: 1", "x-a: 2", "b: 2"], ["x-a: 1", "x-a: 2, 3", "b: 2"]),
        ({"append": {"X-A": "3"}}, ["x-a: "], ["X-A: 3"]),
        ({"add": {"X-A": "2"}}, ["x-a: 1", "b: 2"], ["x-a: 1", "b: 2", "X-A: 2"]),
        ({"set": {"x-out": "<%REQ(x-user)%>"}}, ["x-out: 1"], ["x-out: <alice>"]),
        ({"set": {"x-out": "%REQ(x-none)%"}}, ["x-out: 1"], ["x-out: 1"]),
        ({"append": {"x-out": "%REQ(x-none)%"}}, ["x-out: 1"], ["x-out: 1"]),
        ({"add": {"x-out": "%REQ(x-none)%"}}, [], []),
        ({"append": {"x-out": "%REQ(x-user)%"}}, ["x-out: 1"], ["x-out: 1, alice"]),
        # the order: remove, set, append, add, whatever the names' case
        ({"remove": ("a",), "set": {"A": "1"}}, ["a: 0"], ["A: 1"]),
        ({"set": {"A": "1"}, "append": {"a": "2"}}, ["a: 0"], ["A: 1, 2"]),
        ({"set": {"A": "1"}, "append": {"a": "2"}}, [], ["A: 1, 2"]),
        ({"remove": ("a",), "append": {"a": "2"}}, ["a: 0"], ["a: 2"]),
        ({"append": {"a": "2"}, "add": {"A": "3"}}, ["a: 0"], ["a: 0, 2", "A: 3"]),
        ({"set": {"a": "1"}, "add": {"a": "2"}}, ["a: 0"], ["a: 1", "a: 2"]),
        ({}, ["a: 0"], ["a: 0"]),
    ],
)
def test_changes(keys: dict[str, Any], before: list[str], after: list[str]) -> None:
    assert applied(rules(**keys), *before) == after


NAMES = st.sampled_from(["a", "A", "x-a", "b"])
VALUES = st.sampled_from(["1", "2", "%REQ(x-user)%", "%REQ(x-none)%"])
CHANGES = st.dictionaries(NAMES, VALUES, max_size=3)


def one_by_one(rules: HeaderRules, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    def value(text: str) -> str:
        return text.replace("%REQ(x-user)%", "alice").replace("%REQ(x-none)%", "")

    fields = list(fields)
    for name in rules.remove:
        fields = [f for f in fields if f[0].lower() != name.lower()]
    for name, text in rules.set.items():
        if value(text):
            fields = [f for f in fields if f[0].lower() != name.lower()] + [(name, value(text))]
    for name, text in rules.append.items():
        at = [index for index, f in enumerate(fields) if f[0].lower() == name.lower()]
        if value(text) and at:
            fields[at[-1]] = (fields[at[-1]][0], f"{fields[at[-1]][1]}, {value(text)}")
        elif value(text):
            fields = [*fields, (name, value(text))]
    return fields + [(name, value(text)) for name, text in rules.add.items() if value(text)]


@given(
    st.builds(HeaderRules, remove=st.lists(NAMES, max_size=2).map(tuple), set=CHANGES, append=CHANGES, add=CHANGES),
    st.lists(st.tuples(NAMES, st.sampled_from(["0", "9"])), max_size=5),
)
def test_they_do_what_they_would_one_by_one(rules: HeaderRules, fields: list[tuple[str, str]]) -> None:
    lines = [f"{name}: {value}" for name, value in one_by_one(rules, fields)]
    assert applied(rules, *(f"{name}: {value}" for name, value in fields)) == lines


def test_rules_that_wait_for_the_endpoint() -> None:
    written = rules(
        remove=("x-host", "x-b"),
        set={"X-Host": "%UPSTREAM_HOST%", "x-c": "1"},
        append={"x-c": "2"},
        add={"x-host": "also"},
    )
    assert compile_rules(written).needs_upstream
    first, later = split_rules(written)
    assert first is not None
    assert later is not None
    assert (first.needs_upstream, later.needs_upstream) == (False, True)
    lines = [b"GET / HTTP/1.1", b"x-host: 0", b"x-b: 0", b"x-c: 0"]
    first.apply(lines, Known())
    assert lines[1:] == [b"x-host: 0", b"x-c: 1, 2"]
    later.apply(lines, Known(upstream_host="192.0.2.3:80"))
    assert lines[1:] == [b"x-c: 1, 2", b"X-Host: 192.0.2.3:80", b"x-host: also"]


def test_nothing_is_compiled_of_no_rules() -> None:
    assert split_rules(rules()) == (None, None)
    first, later = split_rules(rules(set={"a": "%REQ(b)%"}))
    assert first is not None
    assert later is None
