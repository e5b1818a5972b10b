"""What a filter is written with; docs/filters.md shows how.

`testing` plays a request through filters without a proxy. The other modules are meshlet's own.
"""

from meshlet.filters.base import SKIP_BODY, BodyResult, Filter, HeadResult, Hold, Outcome
from meshlet.filters.call import Call, Request, Response
from meshlet.filters.headers import Headers
from meshlet.filters.reply import Reply

__all__ = [
    "SKIP_BODY",
    "BodyResult",
    "Call",
    "Filter",
    "HeadResult",
    "Headers",
    "Hold",
    "Outcome",
    "Reply",
    "Request",
    "Response",
]
