"""A config back to what a file may say: durations, sizes and addresses in their written form."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from msgspec import Struct

from meshlet.config.schema import Config
from meshlet.config.units import Address, Duration, Size


def dump(config: Config) -> dict[str, Any]:
    """The whole config, defaults included, as plain dicts and lists; as YAML it loads to an equal config."""
    written: dict[str, Any] = plain(config)
    return written


def digest(config: Config) -> str:
    """A short name of the config's content. Takes a while for a large one: not for the event loop."""
    return hashlib.sha256(json.dumps(dump(config), sort_keys=True).encode()).hexdigest()[:12]


def plain(value: object) -> Any:
    """One value of a config, in the plain types that YAML and JSON know."""
    match value:
        case Struct():
            return {key: plain(getattr(value, key)) for key in value.__struct_fields__}
        case Duration() | Size():
            return value.written
        case Address():
            return str(value)
        case tuple() | list():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case str():
            return str(value)
        case _:
            return value
