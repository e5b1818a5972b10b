"""From a filter's place in the config to the filter itself."""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import TYPE_CHECKING, Any, cast

import msgspec

from meshlet.config.mistakes import nearest, quoted
from meshlet.config.units import Duration, Size
from meshlet.filters.base import Filter
from meshlet.filters.load_error import FilterLoadError

if TYPE_CHECKING:
    from meshlet.config.schema import Filter as Written

__all__ = ["FilterLoadError", "load_filter"]


def load_filter(written: Written) -> Filter:
    """Make the filter. Raises FilterLoadError.

    A Python class is imported from where Python finds it, which the current directory is no part of.
    """
    if written.buffer is not None:
        from meshlet.filters.buffer import Buffer

        return Buffer(written.buffer)
    if written.compression is not None:
        from meshlet.filters.compression import Compression

        return Compression(written.compression)
    assert written.python is not None  # the check of the config has made sure of one
    kind = _import(written.python)
    arguments = () if kind.Config is None else (_config(kind.Config, written.config),)
    if kind.Config is None and written.config is not None:
        raise FilterLoadError(f"config: {kind.__name__} takes none")
    try:
        return kind(*arguments)
    except Exception as error:
        raise FilterLoadError(f"{kind.__name__} cannot be made: {_one_line(error)}") from error


def _import(place: str) -> type[Filter]:
    module_name, _, name = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise FilterLoadError(
                f"no module named {error.name}: it must be installed, or its folder be in PYTHONPATH"
            ) from error
        raise FilterLoadError(f"{module_name} cannot be imported: {_one_line(error)}") from error
    except Exception as error:
        raise FilterLoadError(f"{module_name} cannot be imported: {_one_line(error)}") from error
    found = getattr(module, name, None)
    if found is None:
        near = nearest(name, (each for each in vars(module) if _is_filter(getattr(module, each))))
        hint = f' (did you mean "{near}"?)' if near else ""
        raise FilterLoadError(f"{module_name} has no class {name}{hint}")
    if not _is_filter(found):
        raise FilterLoadError(f"{place} is not a subclass of meshlet.filters.Filter")
    return cast("type[Filter]", found)


def _is_filter(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Filter) and value is not Filter


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- config ---

# Such as: Expected `int`, got `str` - at `$.limits[0].rate`
_MISTAKE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)


def _config(kind: type, value: Any) -> Any:
    value = {} if value is None else value
    _refuse_unknown(kind, value)
    try:
        return msgspec.convert(value, kind, strict=True, dec_hook=_read_unit)
    except msgspec.ValidationError as error:
        match = _MISTAKE.fullmatch(str(error))
        assert match is not None
        raise FilterLoadError(f"config{match['path'] or ''}: {_in_our_words(match['what'])}") from error


def _in_our_words(what: str) -> str:
    """Put a sentence of msgspec as the rest of the config's mistakes are put: no capital, no back quotes."""
    return " ".join((what[:1].lower() + what[1:]).replace("`", "").split())


def _refuse_unknown(kind: type, value: Any) -> None:
    """Refuse keys that the class has not: msgspec passes over them, and over every slip with them."""
    if not isinstance(value, dict):
        return
    if dataclasses.is_dataclass(kind):
        known = {field.name for field in dataclasses.fields(kind)}
    elif issubclass(kind, msgspec.Struct):
        known = {field.encode_name for field in msgspec.structs.fields(kind)}
    else:
        return
    for key in value:
        if key not in known:
            near = nearest(str(key), known)
            hint = f' (did you mean "{near}"?)' if near else ""
            raise FilterLoadError(f"config: found the key {quoted(str(key))}, which {kind.__name__} has not{hint}")


def _read_unit(kind: type, value: Any) -> Any:
    """Read the config's own scalars: `timeout: 250ms` for a field of type Duration, `64KiB` for one of type Size."""
    if issubclass(kind, Duration | Size):
        try:
            return kind.parse(value)
        except ValueError as error:
            raise ValueError(f"expected {error}") from error
    raise NotImplementedError
