from __future__ import annotations

import pytest

from meshlet.config.schema import Buffer as BufferConfig
from meshlet.config.units import Size
from meshlet.filters.buffer import Buffer
from meshlet.filters.testing import ClientRequest, play
from tests.unit.filters.world import World, request_head


def test_nothing_leaves_before_all_is_there() -> None:
    world = World(request_head("Transfer-Encoding: chunked"))
    run = world.start(Buffer(BufferConfig()))
    run.begin(b"ab", False)
    run.data(b"cd")
    assert world.take() == []
    run.end()
    assert world.take() == [("request", b"abcd", True)]
    assert world.head.lines[-1] == b"content-length: 4"


@pytest.mark.parametrize("framing", [{}, {"transfer-encoding": "chunked"}])
async def test_what_is_too_large_is_refused(framing: dict[str, str]) -> None:
    request = ClientRequest("POST", headers=framing, body=[b"abc", b"de"])
    played = await play(Buffer(BufferConfig(max_bytes=Size(4))), request)
    assert played.request is None
    assert played.reply is not None
    assert (played.reply.status, played.reply.body) == (413, b"the request body is larger than 4 bytes\n")


async def test_a_client_that_waits_for_100_is_served() -> None:
    played = await play(Buffer(BufferConfig()), ClientRequest("POST", headers={"expect": "100-continue"}, body=b"ab"))
    assert played.request is not None
    assert "expect" not in played.request.headers
    assert played.request_body == b"ab"
