"""The response of a filter that answers a request itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.filters.headers import reply_line
from meshlet.http.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Reply:
    """A whole response. A `str` body is sent as UTF-8, as plain text where `headers` do not say otherwise."""

    __slots__ = ("body", "fields", "flag", "status")

    def __init__(
        self,
        status: int,
        body: str | bytes = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        """Raises ValueError for a status, a header or a body that no response can have."""
        if not 200 <= status <= 599:
            raise ValueError(f"a status from 200 to 599, not {status}")
        if body and status in (204, 304):
            raise ValueError(f"a response of status {status} has no body")
        pairs: Iterable[tuple[str, str]] = headers.items() if hasattr(headers, "items") else headers
        self.fields = tuple(reply_line(name, value) for name, value in pairs)
        self.status = status
        self.flag = ""  # response flag
        if isinstance(body, str):
            body = body.encode()
            if body and not any(line[:13].lower() == b"content-type:" for line in self.fields):
                self.fields += (b"content-type: text/plain; charset=utf-8",)
        self.body = body

    def __repr__(self) -> str:
        return f"<Reply {self.status} {len(self.body)} bytes>"

    def answer(self) -> Answer:
        """Return what is rendered."""
        return Answer(self.status, self.fields, self.body, self.flag)
