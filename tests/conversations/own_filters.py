"""Filters as users write them, for test_filters.py. They wait, answer and fail where their config says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlet.filters import Filter, Hold, Reply

if TYPE_CHECKING:
    from meshlet.filters import BodyResult, Call, HeadResult, Outcome

#: what the hooks that wait wait for, and what has become of the requests that are over; tests empty them
gates: list[asyncio.Future[None]] = []
outcomes: list[Outcome] = []


@dataclass
class Where:
    """The hook in question: `request_head` and so on."""

    hook: str


def _open_gate() -> asyncio.Future[None]:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gates.append(gate)
    return gate


class Shouts(Filter):
    """Marks heads and turns bodies into capitals, at once."""

    def on_request_head(self, call: Call) -> None:
        call.request.headers.set("x-request-mark", "1")

    def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        return data.upper()

    def on_response_head(self, call: Call) -> None:
        assert call.response is not None
        call.response.headers.set("x-response-mark", "1")

    def on_response_data(self, call: Call, data: bytes, end: bool) -> bytes:
        return data.upper()

    def on_complete(self, call: Call, outcome: Outcome) -> None:
        outcomes.append(outcome)


class Waits(Filter):
    """Waits in one of its hooks."""

    Config = Where

    def __init__(self, config: Where) -> None:
        super().__init__(config)
        setattr(self, f"on_{config.hook}", self._head if config.hook.endswith("head") else self._data)

    async def _head(self, call: Call) -> None:
        await _open_gate()

    async def _data(self, call: Call, data: bytes, end: bool) -> bytes:
        await _open_gate()
        return data

    def on_complete(self, call: Call, outcome: Outcome) -> None:
        outcomes.append(outcome)


class Holds(Filter):
    """Holds responses until they are whole."""

    def on_response_head(self, call: Call) -> Hold:
        return Hold(1000)


class Answers(Filter):
    """Answers in one of its hooks."""

    Config = Where

    def __init__(self, config: Where) -> None:
        super().__init__(config)
        setattr(self, f"on_{config.hook}", self._head if config.hook.endswith("head") else self._data)

    def _head(self, call: Call) -> HeadResult:
        return Reply(403, "no", {"x-why": "because"})

    def _data(self, call: Call, data: bytes, end: bool) -> BodyResult:
        return Reply(403, "no", {"x-why": "because"})

    def on_complete(self, call: Call, outcome: Outcome) -> None:
        outcomes.append(outcome)


class Fails(Filter):
    """Raises in one of its hooks."""

    Config = Where

    def __init__(self, config: Where) -> None:
        super().__init__(config)
        setattr(self, f"on_{config.hook}", self._fail)

    def _fail(self, *_: object) -> None:
        raise RuntimeError("a slip")
