"""From a filter's place in the config to the filter itself."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from meshlet.config.mistakes import nearest
from meshlet.filters.base import Filter
from meshlet.filters.load_error import FilterLoadError, one_line

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
    arguments = []
    if kind.Config is not None:
        from meshlet.filters.own_config import read_config

        arguments.append(read_config(kind.__name__, kind.Config, written.config))
    elif written.config is not None:
        raise FilterLoadError(f"config: {kind.__name__} takes none")
    try:
        return kind(*arguments)
    except Exception as error:
        raise FilterLoadError(f"{kind.__name__} cannot be made: {one_line(error)}") from error


def _import(place: str) -> type[Filter]:
    module_name, _, name = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise FilterLoadError(
                f"no module named {error.name}: it must be installed, or its folder be in PYTHONPATH"
            ) from error
        raise FilterLoadError(f"{module_name} cannot be imported: {one_line(error)}") from error
    except Exception as error:
        raise FilterLoadError(f"{module_name} cannot be imported: {one_line(error)}") from error
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
