"""docs/config.md and the JSON Schema say what the structs say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from meshlet.config import docs, values
from meshlet.config.json_schema import json_schema, structs
from meshlet.config.load import loads
from meshlet.config.reader import described
from meshlet.config.schema import Config

PAGE = Path(__file__).parents[3] / "docs" / "config.md"
STRUCTS = structs(inspect.type_info(Config))


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == docs.render(), "python -m meshlet.config.docs > docs/config.md"


def test_check_tells_a_page_that_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check"]) == 0
    assert capsys.readouterr() == ("", "")


def test_check_tells_a_page_that_is_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(docs, "_INTRO", "# Something else\n")
    assert docs.main(["--check"]) == 1
    assert "docs/config.md is not current" in capsys.readouterr().err


def test_the_page_is_written_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main([]) == 0
    assert capsys.readouterr().out == docs.render()


def test_every_link_of_the_page_leads_to_a_heading() -> None:
    page = docs.render()
    links = set(re.findall(r"\]\(#([a-z]+)\)", page))
    assert links
    assert links <= {heading.lower() for heading in re.findall(r"^## (\w+)$", page, re.MULTILINE)}


def test_the_example_is_a_config() -> None:
    assert docs.EXAMPLE in docs.render()
    loads(docs.EXAMPLE, "example")


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.cls.__name__)
def test_every_key_is_described(kind: inspect.StructType) -> None:
    assert kind.cls.__doc__
    assert [field.name for field in kind.fields if not described(field)] == []


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.cls.__name__)
def test_the_schema_has_every_key(kind: inspect.StructType) -> None:
    schema = json_schema()
    part = schema if kind.cls is Config else schema["$defs"][kind.cls.__name__]
    assert list(part["properties"]) == [field.name for field in kind.fields]
    assert part.get("required", []) == [field.name for field in kind.fields if field.required]
    assert part["additionalProperties"] is False


def test_the_schema_has_defaults_as_they_are_written() -> None:
    defined = json_schema()["$defs"]
    assert defined["Route"]["properties"]["timeout"]["default"] == "15s"
    assert defined["Limits"]["properties"]["max_header_bytes"]["default"] == "64KiB"
    assert defined["Limits"]["properties"]["detect_timeout"]["default"] == "100ms"
    assert defined["Health"]["properties"]["require"]["default"] == []
    assert "default" not in defined["Listener"]["properties"]["limits"]


def test_every_reference_of_the_schema_is_defined() -> None:
    schema = json_schema()
    references = {part["$ref"] for part in _parts(schema) if "$ref" in part}
    assert references == {f"#/$defs/{name}" for name in schema["$defs"]}


def test_defaults_and_examples_fit_the_patterns_beside_them() -> None:
    defined = json_schema()["$defs"]
    checked = 0
    for part in _parts(json_schema()):
        unit = defined.get(part.get("$ref", "").rpartition("/")[2], {})
        for pattern in (option["pattern"] for option in unit.get("anyOf", ()) if "pattern" in option):
            for text in (part.get("default"), *unit.get("examples", ())):
                if isinstance(text, str):
                    checked += 1
                    assert re.search(pattern, text)
    assert checked > 10


def test_every_pattern_has_a_check_beside_it() -> None:
    # The loader leaves patterns to the checks, which can say in words what is wrong.
    kinds = [kind for struct in STRUCTS for field in struct.fields for kind in _annotated(field.type)]
    patterns = [kind for kind in kinds if isinstance(kind.type, inspect.StrType) and kind.type.pattern]
    assert patterns
    assert all((kind.extra or {}).get("check") for kind in patterns)


@settings(deadline=None)
@given(st.text(st.sampled_from("aZ09._- \n/é"), max_size=5) | st.text("a", min_size=126, max_size=130))
def test_the_pattern_of_names_says_what_their_check_says(text: str) -> None:
    pattern = json_schema()["$defs"]["Cluster"]["properties"]["name"]["pattern"]
    # `$` of JSON Schema is the very end of the text, which Python spells \Z.
    fits = re.search(pattern.replace("$", r"\Z"), text) is not None
    try:
        values.name(text)
    except ValueError:
        assert not fits
    else:
        assert fits


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, dict | list):
            yield from _parts(inner)


def _annotated(kind: inspect.Type) -> Iterator[inspect.Metadata]:
    if isinstance(kind, inspect.Metadata):
        yield kind
        yield from _annotated(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for option in kind.types:
            yield from _annotated(option)
    elif isinstance(kind, inspect.VarTupleType):
        yield from _annotated(kind.item_type)
