from __future__ import annotations

import asyncio

import pytest

from meshlet.filters import Call, Filter, Outcome, Reply
from meshlet.filters.testing import AppResponse, ClientRequest, play


class Everything(Filter):
    async def on_request_head(self, call: Call) -> None:
        await asyncio.sleep(0)
        call.request.headers.set("x-peer", call.peer)

    async def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes:
        await asyncio.sleep(0)
        return data.upper()

    async def on_response_head(self, call: Call) -> None:
        assert call.response is not None
        await asyncio.sleep(0)
        call.response.headers.set("x-status", str(call.response.status))

    async def on_response_data(self, call: Call, data: bytes, end: bool) -> bytes:
        await asyncio.sleep(0)
        return data.lower()

    def on_complete(self, call: Call, outcome: Outcome) -> None:
        self.config = outcome


async def test_both_directions_with_hooks_that_wait() -> None:
    each = Everything()
    request = ClientRequest("PUT", "/a", {"x": "y"}, [b"ab", b"cd"], "192.0.2.9")
    played = await play([each], request, AppResponse(201, {"z": "1"}, [b"AB", b"CD"]))
    assert played.reply is None
    assert played.request is not None
    assert (played.request.method, played.request.path, played.request.host) == ("PUT", "/a", "app.test")
    assert (played.request.headers.get("x"), played.request.headers.get("x-peer")) == ("y", "192.0.2.9")
    assert played.request_body == b"ABCD"
    assert played.response is not None
    assert (played.response.status, played.response.headers.get("x-status")) == (201, "201")
    assert played.response_body == b"abcd"
    assert each.config == Outcome(201, "", 0.0, 4, 4)


async def test_a_request_without_a_body_and_a_response_without_one() -> None:
    played = await play(Everything(), ClientRequest())
    assert played.request_body == played.response_body == b""
    assert played.response is not None


async def test_a_reply() -> None:
    class Refuses(Everything):
        async def on_request_head(self, call: Call) -> Reply:  # type: ignore[override]
            return Reply(403)

    each = Refuses()
    played = await play(each, ClientRequest())
    assert played.reply is not None
    assert played.reply.status == 403
    assert played.request is None
    assert played.response is None
    assert each.config == Outcome(403, "", 0.0, 0, 0)


async def test_what_a_hook_raises_is_raised() -> None:
    class Fails(Filter):
        def on_response_head(self, call: Call) -> None:
            raise KeyError("x")

    with pytest.raises(KeyError):
        await play(Fails(), ClientRequest())
