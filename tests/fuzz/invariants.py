"""What must hold for every input, however malformed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.http.chunked import encode_chunk, encode_last_chunk
from meshlet.http.head import CHUNKED, UNTIL_CLOSE, HeadLimits
from tests.support import codec, strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: small, so that inputs reach them
LIMITS = HeadLimits(header_bytes=512, headers=12, target_bytes=128)


def check_requests(data: bytes, cuts: Iterable[Sequence[bytes]]) -> codec.Outcome:
    """Feed a client's bytes to the codec.

    Nothing is raised but BadRequest (anything else ends the run); every cut gives the same; what is sent on is framed
    beyond doubt, with the same bodies; and meshlet itself would send that on as it is.
    """
    outcome = codec.read_requests([data], LIMITS)
    for pieces in cuts:
        assert codec.read_requests(pieces, LIMITS).agrees(outcome), f"cut into {pieces}"
    whole = [message for message in outcome.messages if message.complete]
    forwarded = b"".join(message.forwarded for message in whole)
    seen = strict.read_requests(forwarded)
    assert [(*m.start[:2], m.body, len(m.trailers)) for m in seen] == [
        (*m.facts[:2], m.body, len(m.trailers)) for m in whole
    ]
    again = codec.read_requests([forwarded])
    assert again.refusal is None
    assert again.forwarded == forwarded
    return outcome


def check_response(data: bytes, method: bytes, cuts: Iterable[Sequence[bytes]]) -> codec.Outcome:
    """Feed an app's bytes to the codec; the same must hold, with UpstreamError and the answers to one request."""
    outcome = codec.read_response([data], method, LIMITS, eof=True)
    for pieces in cuts:
        again = codec.read_response(pieces, method, LIMITS, eof=True)
        assert again.agrees(outcome), f"cut into {pieces}"
    statuses = [message.status for message in outcome.messages]
    assert all(status < 200 and status != 101 for status in statuses[:-1]), "something after the final response"
    for message in outcome.messages:
        if message.complete:
            _check_forwarded(message, method)
    return outcome


def _check_forwarded(message: codec.Message, method: bytes) -> None:
    length = message.facts[2]
    chunked = length in (CHUNKED, UNTIL_CLOSE)
    wire = message.head
    if chunked:
        wire = wire.removesuffix(b"\r\n") + b"transfer-encoding: chunked\r\n\r\n"
        wire += (encode_chunk(message.body) if message.body else b"") + encode_last_chunk(message.trailers)
    else:
        wire += message.body
    has_body = chunked or length != 0 or not (method == b"HEAD" or message.status == 304)
    seen = strict.read_response(wire, has_body=has_body)
    assert seen.body == message.body
    assert len(seen.trailers) == len(message.trailers)
