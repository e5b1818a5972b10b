"""Cross-origin requests of browsers (the CORS protocol of the Fetch standard), as a step.

As with Envoy, preflights of origins that are allowed are answered here, with 200, and all others go to the app; what
the app says itself about CORS is replaced for origins that are allowed, and passed on for others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meshlet.http.answer import Answer
from meshlet.http.grammar import Memo
from meshlet.http.head import field_value

if TYPE_CHECKING:
    from meshlet.config.schema import Cors
    from meshlet.filters.steps import Step, StepExchange

# What this step answers for, whether it adds a line for it or not.
_REPLACED = frozenset(
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-expose-headers",
    }
)
_VARY = b"vary: origin\r\n"


def compile_cors(config: Cors) -> Step:
    """Return the step that answers preflights, and tells browsers who may read the responses."""
    anyone = "*" in config.allow_origins
    allowed = re.compile("|".join(map(_pattern, config.allow_origins)).encode(), re.IGNORECASE)
    credentials = (b"access-control-allow-credentials: true",) if config.allow_credentials else ()
    expose = _listed(b"access-control-expose-headers", config.expose_headers)
    more_preflight = (
        *credentials,
        *_listed(b"access-control-allow-methods", config.allow_methods),
        *_listed(b"access-control-allow-headers", config.allow_headers),
        *((b"access-control-max-age: %d" % config.max_age,) if config.max_age is not None else ()),
    )
    more = b"".join(line + b"\r\n" for line in (*credentials, *expose))

    def names(origin: bytes) -> bytes | None:
        """Return the line that allows the origin."""
        if anyone:
            return b"access-control-allow-origin: *"
        return b"access-control-allow-origin: " + origin if allowed.fullmatch(origin) else None

    known = Memo(names)

    def share(exchange: StepExchange, now: float) -> Answer | None:  # noqa: ARG001 (the interface of steps)
        head = exchange.head
        origin = field_value(head.lines, b"origin")
        line = known[origin] if origin is not None else None
        if line is None:
            if not anyone:
                exchange.extra_response += _VARY  # a cache must not give this response to those who are allowed
            return None
        if head.method == b"OPTIONS" and field_value(head.lines, b"access-control-request-method") is not None:
            return Answer(200, (line, *more_preflight) if anyone else (line, *more_preflight, _VARY[:-2]))
        exchange.replaced_response |= _REPLACED
        exchange.extra_response += b"%b\r\n%b%b" % (line, more, b"" if anyone else _VARY)
        return None

    return share


def _pattern(origin: str) -> str:
    """Return the expression for an origin. A browser sends scheme and host in lower case."""
    # `*.` stands for one or more labels, never for a scheme, a port or nothing.
    return re.escape(origin).replace(r"\*\.", r"(?:[a-z0-9_-]+\.)+", 1)


def _listed(name: bytes, values: tuple[str, ...]) -> tuple[bytes, ...]:
    return (b"%b: %b" % (name, ", ".join(values).encode()),) if values else ()
