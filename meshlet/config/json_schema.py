"""The JSON Schema (draft 2020-12) of a config file, for editors and for whoever makes configs with a program.

It is made from the structs of `schema`. msgspec's own generator cannot write the default of a Duration,
nor knows that an Address is text.
"""

from __future__ import annotations

from typing import Any

from msgspec import NODEFAULT, inspect

from meshlet.config.dump import plain
from meshlet.config.schema import Config
from meshlet.config.units import Address, Duration, RetryOn, Size

Json = dict[str, Any]

_UNITS: dict[type, Json] = {
    Duration: {
        "anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"}, {"const": 0}],
        "examples": ["250ms", "2s", "5m", "1h"],
    },
    Size: {
        "anyOf": [{"type": "string", "pattern": r"^[0-9]+(B|KiB|MiB|GiB)?$"}, {"type": "integer", "minimum": 0}],
        "examples": [512, "64KiB", "10MiB"],
    },
    Address: {
        "type": "string",
        "pattern": r"^(unix:.+|.+:[0-9]{1,5})$",
        "examples": ["127.0.0.1:8080", "[::1]:8080", "reviews:9080", "unix:/run/app.sock"],
    },
    RetryOn: {
        "anyOf": [
            {"enum": [*RetryOn.NAMES, *RetryOn.ALIASES]},
            {"type": "string", "pattern": "^[45][0-9][0-9]$"},
            {"type": "integer", "minimum": 400, "maximum": 599},
        ],
    },
}


def json_schema() -> Json:
    """The schema of a whole config file."""
    definitions = {cls.__name__: unit for cls, unit in _UNITS.items()}
    definitions |= {kind.cls.__name__: _struct(kind) for kind in structs(inspect.type_info(Config))}
    top = definitions.pop(Config.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "meshlet config",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def structs(kind: inspect.Type) -> list[inspect.StructType]:
    """All structs that `kind` is made of, each once, a struct before those inside it."""
    found: dict[type, inspect.StructType] = {}
    _collect(kind, found)
    return list(found.values())


def _collect(kind: inspect.Type, found: dict[type, inspect.StructType]) -> None:
    match kind:
        case inspect.Metadata():
            _collect(kind.type, found)
        case inspect.UnionType():
            for option in kind.types:
                _collect(option, found)
        case inspect.VarTupleType():
            _collect(kind.item_type, found)
        case inspect.DictType():
            _collect(kind.value_type, found)
        case inspect.StructType() if kind.cls not in found:
            found[kind.cls] = kind
            for field in kind.fields:
                _collect(field.type, found)


def _struct(kind: inspect.StructType) -> Json:
    schema: Json = {
        "type": "object",
        "description": " ".join((kind.cls.__doc__ or "").split()),
        "properties": {field.name: _field(field) for field in kind.fields},
        "additionalProperties": False,
    }
    required = [field.name for field in kind.fields if field.required]
    return schema | ({"required": required} if required else {})


def _field(field: inspect.Field) -> Json:
    schema = _type(field.type)
    # A struct's own defaults say what a left-out struct is; repeating them here would only add noise.
    if field.default is not NODEFAULT and not isinstance(plain(field.default), dict):
        schema |= {"default": plain(field.default)}
    return schema


def _type(kind: inspect.Type) -> Json:
    match kind:
        case inspect.Metadata():
            return _type(kind.type) | (kind.extra_json_schema or {})
        case inspect.UnionType():
            return {"anyOf": [_type(option) for option in kind.types]}
        case inspect.VarTupleType():
            return _known(type="array", items=_type(kind.item_type), minItems=kind.min_length)
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _type(kind.value_type)}
        case inspect.AnyType():
            return {}
        case inspect.StructType() | inspect.CustomType() | inspect.NamedTupleType():
            return {"$ref": f"#/$defs/{kind.cls.__name__}"}
        case _:
            return _scalar(kind)


def _scalar(kind: inspect.Type) -> Json:
    match kind:
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.LiteralType():
            return {"enum": list(kind.values)}
        case inspect.StrType():
            return _known(type="string", pattern=kind.pattern, minLength=kind.min_length)
        case inspect.IntType():
            return _known(type="integer", minimum=kind.ge, maximum=kind.le)
        case inspect.FloatType():
            return _known(type="number", minimum=kind.ge, maximum=kind.le)
    raise TypeError(f"the config has no values of type {kind}")


def _known(**keywords: object) -> Json:
    return {key: value for key, value in keywords.items() if value is not None}
