"""What a client may ask of the proxy for one request: retries and timeouts in Envoy's fields, and a deadline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from meshlet.http.grammar import OWS, cgi_names
from meshlet.resilience.retry import with_request_headers
from meshlet.timers import NEVER

if TYPE_CHECKING:
    from meshlet.http.head import RequestHead
    from meshlet.proxy.settings import RouteAction

_TIMEOUT = b"x-envoy-upstream-rq-timeout-ms"
# What a trusted proxy in front tells the app.
_TOLD = (b"x-envoy-internal", b"x-envoy-external-address", b"x-envoy-original-path", b"x-envoy-original-host")
# More digits than any wait has milliseconds.
_LONGEST_NUMBER = 9


def asked_for(route: RouteAction, head: RequestHead, *, trusted: bool) -> RouteAction:
    """Return the route as this request has it.

    Only a trusted client has a say in timeouts and retries; a deadline can but shorten the wait, so anybody may give
    one. It is taken out of the head, because `Exchange.attempt_lines` writes what is left of it.
    """
    timeout, policy, deadline = route.timeout, route.policy, NEVER
    fields = head.envoy
    if trusted and fields is not None:
        asked = _milliseconds(fields.get(_TIMEOUT))
        if asked is not None:
            timeout = asked or NEVER
        policy = with_request_headers(policy, fields)
        head.lines += [b"%b: %b" % (name, fields[name]) for name in _TOLD if name in fields]
    if route.deadline_header is not None:
        left = _deadline(head, route.deadline_header)
        if left is not None:
            deadline = left
            timeout = min(timeout, left)
    if timeout == route.timeout and policy is route.policy and deadline == NEVER:
        return route
    soonest = min(timeout, policy.per_try_timeout or NEVER, route.idle_timeout)
    return replace(route, timeout=timeout, policy=policy, deadline=deadline, soonest=soonest)


def _deadline(head: RequestHead, name: bytes) -> float | None:
    """Take all fields called `name` out of the head; return the least of the times left, in seconds."""
    values = [value for key, value in (head.envoy or {}).items() if key == name]
    for line in head.lines[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            values.append(value.strip(OWS))
    # Nor may the app take another field for it: CGI-like environments read x_deadline as x-deadline.
    start = cgi_names(name)
    head.lines[1:] = [line for line in head.lines[1:] if cgi_names(line.partition(b":")[0]) != start]
    return min((left for value in values if (left := _milliseconds(value)) is not None), default=None)


def _milliseconds(value: bytes | None) -> float | None:
    """Return the seconds that a whole number of milliseconds stands for; None for anything else."""
    if value is None or not value.isdigit() or len(value) > _LONGEST_NUMBER:
        return None
    return int(value) / 1000
