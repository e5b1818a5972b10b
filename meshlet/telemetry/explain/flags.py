"""What each response flag means, in one line, and what to check where nothing more is known.

The flags are those of `meshlet.http.flags`. docs/flags.md has a section for each of them.
"""

from __future__ import annotations

from typing import NamedTuple

#: where the long form is
PAGE = "docs/flags.md"


class Flag(NamedTuple):
    """One response flag."""

    meaning: str
    check: str  # the hint where the facts of a request say no more


FLAGS = {
    "DC": Flag(
        "the client left before its response was complete",
        "compare the client's timeout with how long the app takes",
    ),
    "DI": Flag(
        "the config delayed this request on purpose",
        "that is `fault.delay` of the route; remove it when the test is over",
    ),
    "DPE": Flag(
        "the client broke the protocol or went beyond a limit",
        "the error says which rule; look at what the client sends",
    ),
    "DT": Flag(
        "the client did not send a whole request head in time",
        "a slow client, or a check that connects and sends nothing; else raise `limits.head_timeout`",
    ),
    "FE": Flag(
        "a filter raised an exception",
        "meshlet's own log has its traceback",
    ),
    "FI": Flag(
        "the config made this request fail on purpose",
        "that is `fault.abort` of the route; remove it when the test is over",
    ),
    "LR": Flag(
        "meshlet reset the connection to the app",
        "see the error, and the other flags beside this one",
    ),
    "NR": Flag(
        "no route takes this request",
        "ask `meshlet routes check CONFIG --request 'METHOD URL'` why each route does not",
    ),
    "OM": Flag(
        "refused because meshlet itself was overloaded",
        "look at meshlet's own CPU, memory and open connections",
    ),
    "RL": Flag(
        "a rate limit let no more requests through",
        "see `rate_limit` of the route and `x-ratelimit-*` of the response: which client sends so many?",
    ),
    "SI": Flag(
        "no byte moved in either direction for too long",
        "who stopped, the app or the client? For long pauses raise `idle_timeout` of the route",
    ),
    "UAEX": Flag(
        "the authorization of this request was denied",
        "look at what the authorization service or filter says about this client",
    ),
    "UC": Flag(
        "the app closed the connection before its response was complete",
        "look into the app's own log at this time: a crash, a restart, a worker's timeout?",
    ),
    "UF": Flag(
        "no connection to the endpoint could be made",
        "is the app up, and does it listen on this address and port?",
    ),
    "UH": Flag(
        "the cluster has no endpoint to send to",
        "`/clusters` of the admin port says which endpoints there are, and what keeps requests from each",
    ),
    "UO": Flag(
        "a bound of the cluster's circuit breaker was met",
        "mostly the app has become slow: look at its durations before you raise `circuit_breaker`",
    ),
    "UPE": Flag(
        "the app's response is malformed or ambiguous, so it was not passed on",
        "the error says which rule was broken; ask the app directly, with `curl -v`",
    ),
    "URX": Flag(
        "all tries that the route allows were made, and the last one failed too",
        "look at why each try failed",
    ),
    "UT": Flag(
        "the app did not answer in time",
        "is the app slow, or the route's `timeout` too short for this request?",
    ),
}

_UNKNOWN = Flag("a flag that this version does not know, set by a filter perhaps", "look at the filters of the route")


def about(flag: str) -> Flag:
    """Return what is known about a flag; `FE:ClassName` is one about `FE`."""
    return FLAGS.get(flag.partition(":")[0], _UNKNOWN)


def link(flag: str) -> str:
    """Return where the documentation explains a flag: a page and an anchor."""
    name = flag.partition(":")[0]
    return f"{PAGE}#{name.lower()}" if name in FLAGS else PAGE
