"""The kinds of scalars, each with what is read and what is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, inspect

from meshlet.config import json_schema
from meshlet.config.json_schema import structs
from meshlet.config.nodes import NotYaml, Scalar, parse
from meshlet.config.reader import bare
from meshlet.config.scalars import expected, read_scalar

RATIO: Any = Annotated[float, Meta(ge=0, le=1)]
AT_LEAST_TWO: Any = Annotated[int, Meta(ge=2)]
AT_MOST_TWO: Any = Annotated[int, Meta(le=2)]


class Inner(Struct):
    ratio: RATIO = 0.5


class Outer(Struct):
    one: Inner
    many: tuple[Inner, ...] = ()
    perhaps: Inner | None = None


def kind_of(annotation: Any) -> inspect.Type:
    return bare(inspect.type_info(annotation))


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (RATIO, "0.5", 0.5),
        (RATIO, "1", 1),
        (int, "-5", -5),
        (int, "+5", 5),
        (bool, "TRUE", True),
        (str, "yes", "yes"),
        (Literal["a", "b"], "b", "b"),
    ],
)
def test_what_is_read(annotation: Any, text: str, value: object) -> None:
    assert read_scalar(kind_of(annotation), parse(text)) == value


@pytest.mark.parametrize(
    ("annotation", "text", "words"),
    [
        (RATIO, "1.5", "a number from 0 to 1"),
        (RATIO, ".nan", "a number from 0 to 1"),
        (RATIO, "true", "a number from 0 to 1"),
        (float, "'1'", "a number"),
        (AT_LEAST_TWO, "1", "a whole number of at least 2"),
        (AT_MOST_TWO, "3", "a whole number of at most 2"),
        (int, "1.0", "a whole number"),
        (int, "0x10", "a whole number"),
        (int, "1_000", "a whole number"),
        (int, "9" * 5000, "a whole number"),
        (bool, "1", "true or false"),
        (bool, "'true'", "true or false"),
        (str, "1.10", 'text; put it in quotes: "1.10"'),
        (str, "[a]", "text"),
        (Literal["a", "b"], "c", "one of a, b"),
    ],
)
def test_what_is_refused(annotation: Any, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_scalar(kind_of(annotation), parse(text))
    assert str(caught.value) == words


def test_a_type_that_the_config_does_not_have_is_a_flaw_of_the_schema() -> None:
    with pytest.raises(TypeError, match="no values of type"):
        read_scalar(kind_of(bytes), Scalar(1, "a", plain=True))
    with pytest.raises(TypeError, match="no values of type"):
        expected(kind_of(bytes))


def test_what_cannot_be_parsed_says_where() -> None:
    with pytest.raises(NotYaml) as caught:
        parse("a: b\nc: [")
    assert (caught.value.line, caught.value.expected) == (2, "valid YAML")


def test_structs_are_found_wherever_they_stand() -> None:
    assert [kind.cls for kind in structs(inspect.type_info(Outer))] == [Outer, Inner]


def test_json_schema_of_numbers() -> None:
    assert json_schema._scalar(kind_of(RATIO)) == {"type": "number", "minimum": 0, "maximum": 1}
    with pytest.raises(TypeError, match="no values of type"):
        json_schema._scalar(kind_of(bytes))
