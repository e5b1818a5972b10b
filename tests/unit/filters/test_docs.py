"""The code of docs/filters.md does what the page says."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshlet import filters
from meshlet.config.units import Duration
from meshlet.filters.testing import ClientRequest, play

PAGE = Path(__file__).parents[3] / "docs/filters.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(name="names")
def _names() -> dict[str, Any]:
    """What the blocks of the page define, one after the other."""
    names: dict[str, Any] = {name: getattr(filters, name) for name in filters.__all__}
    names |= {"msgspec": msgspec, "Duration": Duration, "logger": logging.getLogger("test"), "__name__": "docs"}
    for block in BLOCKS:
        exec(block, names)
    return names


async def test_the_filter_in_ten_lines(names: dict[str, Any]) -> None:
    each = names["TeamHeader"]()
    played = await play(each, ClientRequest())
    assert played.reply is not None
    assert played.reply.status == 400
    await names["test_the_team_is_in_lower_case"]()


@pytest.mark.parametrize(("body", "status"), [(b" ", 422), (b"", 422), (b"line", None)])
async def test_the_filter_that_wants_the_whole_body(names: dict[str, Any], body: bytes, status: int | None) -> None:
    played = await play(names["NoEmptyOrders"](), ClientRequest("POST", body=body))
    assert (played.reply.status if played.reply is not None else None) == status


async def test_the_filter_with_a_config(names: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    slow = names["Slow"]
    await play(slow(slow.Config(after=Duration(-1.0))), ClientRequest(target="/slow"))
    assert "/slow took" in caplog.text
