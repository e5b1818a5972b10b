"""A chain of filters, compiled once: for each direction the hooks there are, in the order they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshlet.filters.base import Filter
from meshlet.filters.call import Call
from meshlet.filters.run import ChainRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from meshlet.filters.base import Outcome
    from meshlet.filters.call import Facts
    from meshlet.filters.run import CreateTask
    from meshlet.filters.sink import ChainSink


class Stage(NamedTuple):
    """One filter's hooks for one direction; None stands for a hook that it leaves out."""

    name: str  # of the filter's class
    head: Callable[[Call], Any] | None
    data: Callable[[Call, bytes, bool], Any] | None
    complete: Callable[[Call, Outcome], None] | None = None


class Chain:
    """The filters that a request passes: the listener's, then the route's; its response passes them in reverse."""

    __slots__ = ("filters", "requests", "responses")

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.filters = tuple(filters)
        requests = [_stage(each, "request") for each in self.filters]
        responses = [_stage(each, "response") for each in reversed(self.filters)]
        self.requests = tuple(stage for stage in requests if any(stage[1:]))
        self.responses = tuple(stage for stage in responses if any(stage[1:]))

    def __repr__(self) -> str:
        return f"<Chain {' '.join(type(each).__name__ for each in self.filters)}>"

    def __bool__(self) -> bool:
        return bool(self.requests or self.responses)

    def start(self, facts: Facts, sink: ChainSink, create_task: CreateTask | None = None) -> ChainRun:
        """Return what plays one request. Without `create_task` a hook that waits gets a task of the running loop."""
        return ChainRun(self, Call(facts), facts.head, sink, create_task)


def _stage(each: Filter, direction: str) -> Stage:
    head, data = f"on_{direction}_head", f"on_{direction}_data"
    complete = each.on_complete if direction == "request" and _overrides(each, "on_complete") else None
    return Stage(
        type(each).__name__,
        getattr(each, head) if _overrides(each, head) else None,
        getattr(each, data) if _overrides(each, data) else None,
        complete,
    )


def _overrides(each: Filter, hook: str) -> bool:
    # An attribute of the object counts as well: `__init__` may choose among several functions.
    return hook in vars(each) or getattr(type(each), hook) is not getattr(Filter, hook)
