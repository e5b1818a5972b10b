"""From the value under a filter's `config:` to what the `Config` of its class says."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import inspect

from meshlet.config.mistakes import nearest, quoted
from meshlet.config.units import Duration, Size
from meshlet.filters.load_error import FilterLoadError, one_line

# Such as: Expected `int`, got `str` - at `$.limits[0].rate`
_MISTAKE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)

_KEYED = inspect.StructType | inspect.DataclassType | inspect.TypedDictType


def read_config(owner: str, kind: Any, value: Any) -> Any:
    """Return the value as `kind`, which is the `Config` of the class `owner`. Raises FilterLoadError.

    `kind` may be whatever somebody has called so: msgspec tells whether it is a type that a value can be converted to.
    """
    try:
        info = inspect.type_info(kind)
    except Exception as error:  # annotations are evaluated here
        raise FilterLoadError(
            f"{owner}.Config is no type that a config can be converted to, such as a dataclass or msgspec.Struct: "
            f"{one_line(error)}"
        ) from error
    if value is None and _takes_mapping(info):
        value = {}
    _refuse_unknown(info, value, "config")
    try:
        return msgspec.convert(value, kind, strict=True, dec_hook=_read_unit)
    except msgspec.ValidationError as error:
        match = _MISTAKE.fullmatch(str(error))
        assert match is not None
        raise FilterLoadError(f"config{match['path'] or ''}: {_in_our_words(match['what'])}") from error
    except Exception as error:
        raise FilterLoadError(f"config: {owner}.Config cannot be made: {one_line(error)}") from error


def _in_our_words(what: str) -> str:
    """Put a sentence of msgspec as the rest of the config's mistakes are put: no capital, no back quotes."""
    return " ".join((what[:1].lower() + what[1:]).replace("`", "").split())


def _read_unit(kind: Any, value: Any) -> Any:
    """Read the config's own scalars: `timeout: 250ms` for a field of type Duration, `64KiB` for one of type Size."""
    if isinstance(kind, type) and issubclass(kind, Duration | Size):
        try:
            return kind.parse(value)
        except ValueError as error:
            raise ValueError(f"expected {error}") from error
    raise ValueError(f"the type {getattr(kind, '__name__', kind)} is none that a config can be converted to")


# --- what msgspec does not do ---


def _takes_mapping(info: inspect.Type) -> bool:
    """Whether a filter whose `config:` is left out gets an empty mapping converted."""
    return any(
        isinstance(each, _KEYED | inspect.DictType | inspect.AnyType) and not getattr(each, "array_like", False)
        for each in _options(info)
    )


def _options(info: inspect.Type) -> list[inspect.Type]:
    """The types of a union, or the one type, without what is annotated to it."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    return (
        [each for option in info.types for each in _options(option)] if isinstance(info, inspect.UnionType) else [info]
    )


def _refuse_unknown(info: inspect.Type, value: Any, place: str) -> None:
    """Refuse keys that a class has not: msgspec passes over them, and over every slip with them."""
    options = _options(info)
    if isinstance(value, dict):
        keyed = [each for each in options if isinstance(each, _KEYED)]
        # Of several structs in a union, a tag tells which one is meant.
        meant = [
            each for each in keyed if isinstance(each, inspect.StructType) and each.tag == value.get(each.tag_field)
        ]
        if len(keyed) == 1 or len(meant) == 1:
            _refuse_keys(keyed[0] if len(keyed) == 1 else meant[0], value, place)
        for each in options:
            if isinstance(each, inspect.DictType):
                for key, inner in value.items():
                    _refuse_unknown(each.value_type, inner, f"{place}.{key}")
    elif isinstance(value, list):
        for each in options:
            for index, (inner_info, inner) in enumerate(zip(_item_types(each, len(value)), value, strict=False)):
                _refuse_unknown(inner_info, inner, f"{place}[{index}]")


def _item_types(info: inspect.Type, length: int) -> list[inspect.Type]:
    if isinstance(info, inspect.CollectionType):
        return [info.item_type] * length
    if isinstance(info, inspect.TupleType):
        return list(info.item_types)
    if isinstance(info, inspect.NamedTupleType) or (isinstance(info, inspect.StructType) and info.array_like):
        return [field.type for field in info.fields]
    return []


def _refuse_keys(info: inspect.Type, value: dict[str, Any], place: str) -> None:
    assert isinstance(info, _KEYED)
    fields = {field.encode_name: field.type for field in info.fields}
    tag = info.tag_field if isinstance(info, inspect.StructType) else None
    for key, inner in value.items():
        if key in fields:
            _refuse_unknown(fields[key], inner, f"{place}.{key}")
        elif key != tag:
            near = nearest(str(key), fields)
            hint = f' (did you mean "{near}"?)' if near else ""
            raise FilterLoadError(f"{place}: found the key {quoted(str(key))}, which {info.cls.__name__} has not{hint}")
