"""Faults on purpose, as a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.filters.errors import FaultAborted
from meshlet.http.answer import Delay
from meshlet.routing.conditions import all_hold, compile_header_conditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.schema import Fault
    from meshlet.filters.steps import Step, StepExchange, Verdict


def compile_fault(config: Fault, random: Callable[[], float]) -> Step:
    """Return the step that delays and aborts; `random` gives numbers from 0 up to, but not including, 1."""
    conditions = compile_header_conditions(config.headers)
    delay, abort = config.delay, config.abort
    seconds = float(delay.duration) if delay is not None else 0.0
    # Shares of 1; what is not configured has none.
    delayed = delay.percent / 100 if delay is not None else 0.0
    aborted = abort.percent / 100 if abort is not None else 0.0
    status = abort.status if abort is not None else 0

    def inject(exchange: StepExchange, now: float) -> Verdict:  # noqa: ARG001 (the interface of steps)
        if not all_hold(conditions, exchange.head):
            return None
        late = random() < delayed
        error = FaultAborted(status) if random() < aborted else None
        return Delay(seconds, error) if late else error

    return inject
