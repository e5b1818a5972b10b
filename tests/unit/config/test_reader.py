"""Mappings with free keys, and values whose type somebody else knows."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.load import ConfigError, loads
from meshlet.config.schema import Route, ValueMatch

START = """\
listeners:
  - name: in
    address: 127.0.0.1:8000
    routes:
      - cluster: app
"""
END = """\
clusters:
  - name: app
    endpoints: [127.0.0.1:8080]
"""


def route_of(lines: str) -> Route:
    """The route with further lines, which begin on line 6."""
    indented = "".join(f"        {line}\n" for line in lines.splitlines())
    return loads(START + indented + END, "c.yaml").listeners[0].routes[0]


def mistakes_of(lines: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        route_of(lines)
    return [str(mistake).replace(" listeners[0].routes[0].", " ") for mistake in caught.value.mistakes]


def test_a_mapping_has_its_keys_in_the_order_of_the_file() -> None:
    headers = route_of("match:\n  headers:\n    X-B: b\n    x-a: {prefix: a, invert: true}").match.headers
    assert list(headers.items()) == [("X-B", "b"), ("x-a", ValueMatch(prefix="a", invert=True))]


def test_every_mistake_in_a_mapping_has_its_own_line() -> None:
    text = """\
request_headers:
  set:
    x-a: a
    bad name: b
    x-c:
      - c
    x-a: d
    x-e: "%NO%"
    x-f: 7
    x-g:
    <<: {x-h: h}
    host: i
"""
    known = [line.partition(", expected ")[0] for line in mistakes_of(text)]
    assert known == [
        "c.yaml:9: request_headers.set.'bad name': found 'bad name'",
        "c.yaml:11: request_headers.set.x-c: found a list",
        "c.yaml:12: request_headers.set.x-a: found the key a second time (first on line 8)",
        "c.yaml:13: request_headers.set.x-e: found '%NO%'",
        "c.yaml:14: request_headers.set.x-f: found 7",
        "c.yaml:15: request_headers.set.x-g: found nothing",
        "c.yaml:16: request_headers.set.'<<': found a merge key",
        "c.yaml:17: request_headers.set.host: found 'host'",
    ]


def test_a_mistake_inside_a_value_of_a_mapping() -> None:
    text = "match:\n  query:\n    page:\n      exact: a\n      inverted: true\n    size: {regex: '('}"
    assert [line.partition(", expected ")[0] for line in mistakes_of(text)] == [
        "c.yaml:10: match.query.page.inverted: found the unknown key 'inverted'",
        "c.yaml:11: match.query.size.regex: found '('",
    ]


def test_a_key_that_is_a_list() -> None:
    assert mistakes_of("match: {headers: {[a]: b}}") == [
        "c.yaml:6: match.headers.'a list': found 'a list', expected a header name, which is a token of RFC 9110 such "
        "as x-user"
    ]


@pytest.mark.parametrize("key", ["1", "true", "null", "1.50", "no"])
def test_a_key_is_text_as_it_is_written(key: str) -> None:
    assert route_of(f"match: {{query: {{{key}: a}}}}").match.query == {key: "a"}


@pytest.mark.parametrize("what", ["a", "5", "[a]", "null"])
def test_what_is_no_mapping(what: str) -> None:
    [line] = mistakes_of(f"match: {{query: {what}}}")
    assert line.endswith(", expected a mapping")


def config_of(written: str) -> Any:
    return route_of(f"filters: [{{python: 'a:B', config: {written}}}]").filters[0].config


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("'5'", "5"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("[]", []),
        ("{}", {}),
        ("{a: [1, {b: null}], 'c d': x, 7: 8}", {"a": [1, {"b": None}], "c d": "x", "7": 8}),
    ],
)
def test_any_value_comes_as_plain_python(written: str, value: Any) -> None:
    found = config_of(written)
    assert found == value
    assert type(found) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(st.characters(codec="ascii", exclude_categories=["C"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(plain)
def test_any_value_is_what_json_says_it_is(value: Any) -> None:
    assert config_of(json.dumps(value)) == value


def test_a_mistake_deep_in_any_value_has_its_line() -> None:
    text = "filters:\n  - python: a:B\n    config:\n      rates:\n      - {gold: 1}\n      - gold: 1\n        gold: 2"
    assert mistakes_of(text) == [
        "c.yaml:12: filters[0].config.rates[1].gold: found the key a second time (first on line 11), "
        "expected each key once"
    ]


def nested(anchors: int, levels: int) -> str:
    """A filter whose config nests `anchors` values into each other, each of so many levels, by aliases."""
    lists = [f"a{n}: &a{n} {'[' * levels}{'*a' + str(n - 1) if n else 1}{']' * levels}" for n in range(anchors)]
    return "filters:\n  - python: a:B\n    config:\n" + "".join(f"      {each}\n" for each in lists)


@pytest.mark.parametrize(("anchors", "levels"), [(2, 30), (5, 9), (100, 40), (5000, 1)])
def test_aliases_cannot_nest_without_bound(anchors: int, levels: int) -> None:
    [line] = mistakes_of(nested(anchors, levels))
    assert re.fullmatch(r"c\.yaml:\d+: \(top level\): found more than 50 levels of nesting, expected fewer", line)


def test_aliases_may_nest() -> None:
    config = route_of(nested(4, 10)).filters[0].config
    value: Any = config["a3"] if isinstance(config, dict) else None
    for _ in range(40):
        [value] = value
    assert value == 1


def test_a_merge_key_is_none_in_any_value() -> None:
    [line] = mistakes_of("filters:\n  - python: a:B\n    config:\n      <<: {a: 1}")
    assert line.startswith("c.yaml:9: filters[0].config.'<<': found a merge key")


def test_a_value_for_a_list_is_put_in_brackets() -> None:
    assert mistakes_of("upgrades: websocket,tls") == [
        "c.yaml:6: upgrades: found 'websocket,tls', expected a list; put it in brackets: [websocket, tls]"
    ]
    assert mistakes_of('upgrades: "a\\nb"') == ["c.yaml:6: upgrades: found 'a\\nb', expected a list"]
    assert mistakes_of("upgrades: ''") == ["c.yaml:6: upgrades: found '', expected a list"]
    assert mistakes_of("filters: buffer") == ["c.yaml:6: filters: found 'buffer', expected a list"]
    assert mistakes_of("upgrades:") == ["c.yaml:6: upgrades: found nothing, expected a list"]
