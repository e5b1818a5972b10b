"""Says what to check about a failed or slow request: one line for each response flag, chosen by the facts.

The facts are an explanation as `ring` makes it. What went wrong is known from the error's words, which are those of
`meshlet.errors` where they are raised, and of the operating system.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from meshlet.telemetry.explain.facts import endpoint_of, in_words, last_try
from meshlet.telemetry.explain.flags import about, link
from meshlet.telemetry.explain.no_flag import without_flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.telemetry.explain.facts import Facts

    Rules = tuple[tuple[str, str], ...]


def reasons(facts: Facts) -> list[dict[str, str]]:
    """Return what to know about each flag of the request; where it has none, why it is kept at all."""
    flags = facts["flag"].split(",") if facts["flag"] else []
    if not flags:
        meaning, hint = without_flag(facts)
        return [{"flag": "", "meaning": meaning, "hint": hint, "link": ""}]
    return [
        {"flag": flag, "meaning": about(flag).meaning, "hint": _hint(flag, facts), "link": link(flag)} for flag in flags
    ]


def _hint(flag: str, facts: Facts) -> str:
    chosen = _HINTS.get(flag.partition(":")[0])
    return (chosen(flag, facts) if chosen is not None else "") or about(flag).check


def _matched(rules: Rules, text: str) -> str:
    """Return the hint of the first rule whose words are in the text; empty if there is none."""
    text = text.lower()
    return next((hint for words, hint in rules if words in text), "")


# --- no connection ---

_REFUSED = "nothing listens on {0}: is the app up, and on this port?"
_SILENT = (
    "{0} does not answer at all: a wrong address, a NetworkPolicy or firewall that drops packets, or an app too busy "
    "to accept; `connect_timeout` of the cluster bounds the wait"
)
_NEXT_ADDRESS = re.compile(r", to (?=[\[0-9])")
_CONNECT: Rules = (
    ("refused", _REFUSED),
    ("connect call failed", _REFUSED),
    ("no answer within", _SILENT),
    ("no such file", "there is no socket {0}: has the app made it, and do both containers mount its folder?"),
    ("permission denied", "meshlet may not open {0}: look at its owner and mode"),
    ("name", "the name in {0} is not known: try `getent hosts` in the Pod; is it spelt right, is DNS reachable?"),
    ("unreachable", "there is no way to {0}: a wrong address, or no route; try `ip route get` in the Pod"),
    ("no route to host", "there is no way to {0}: is the Pod or node gone, does a firewall reject it?"),
    ("too many open files", "meshlet has no descriptors left: raise `ulimit -n`, or lower `max_connections`"),
    ("cannot assign requested address", "no local port is left for {0}: too many connections that live too short"),
)


def _uf(_: str, facts: Facts) -> str:
    failed = next((each for each in reversed(facts["tries"]) if each["flag"] == "UF"), None)
    reason = failed["reason"] if failed is not None else facts["error"]
    endpoint = failed["endpoint"] if failed is not None else endpoint_of(facts)
    if reason.startswith("no connection to "):
        return _SILENT.format(endpoint)
    # The address may hold words that look like a cause. A server with two addresses has a cause for each.
    causes = "; ".join(each.rpartition(": ")[2] for each in _NEXT_ADDRESS.split(reason))
    return _matched(_CONNECT, causes).format(endpoint)


def _uh(_: str, facts: Facts) -> str:
    cluster, error = facts["cluster"], facts["error"]
    if "cannot resolve" in error:
        return f"DNS does not know the endpoints of {cluster}: are they spelt right? Try `getent hosts NAME` in the Pod"
    if "is known" in error:
        return (
            f"discovery has found no endpoint of {cluster}: does the Service have ready Pods, does its name resolve? "
            "`/clusters` has discovery's last error"
        )
    counts = error.rpartition("is available: ")[2]
    if "0 ejected" in counts:
        return (
            f"the health checks of all endpoints fail: is the path of `health_check` of {cluster} right? `/clusters` "
            "says what the last check found"
        )
    if counts.startswith("0 unhealthy"):
        return (
            "all endpoints failed so often that outlier detection took them out: `meshlet explain --last 50` has these "
            "failures; a `panic_threshold` above 0 would have let this request through"
        )
    return ""


def _uo(_: str, facts: Facts) -> str:
    return _matched(
        (
            ("requests are in flight", "`circuit_breaker.max_requests`: is the app slower than it should be?"),
            ("wait for a connection", "`circuit_breaker.max_pending`: all connections are busy, and the queue full"),
            (
                "connections are open",
                "`circuit_breaker.max_connections`: do connections stay open longer than they should?",
            ),
            (
                "no free connection",
                "all connections stayed busy for `pending_timeout`: is the app slow, or "
                "`circuit_breaker.max_connections` too low?",
            ),
        ),
        facts["error"],
    ) or (
        "not sent again because `retry_budget` of the cluster was spent: many requests fail at once, so look at the "
        "app, not at the budget"
    )


# --- the app ---

# A connection that was closed while it was idle shows it within a round trip; later it is the app that failed.
_STALE_SHOWS_IN = 1.0  # seconds


def _uc(_: str, facts: Facts) -> str:
    last = last_try(facts)
    if "as soon as it was made" in facts["error"]:
        return f"{endpoint_of(facts)} accepts connections and closes them: is it TLS, or a proxy without an app?"
    began = facts["response_seconds"] is not None or last.get("first_byte") is not None
    if began or "within a response head" in facts["error"]:
        return (
            "the app gave up in the middle of its answer: a crash, an OOM kill, a restart, a worker's timeout; look "
            "into its log at this time"
        )
    if last.get("connection") == "pooled" and last["ended"] - last["began"] < _STALE_SHOWS_IN:
        return (
            "the app had just closed this kept-alive connection: set `idle_timeout` of the cluster below the app's "
            "own keep-alive timeout"
        )
    if facts["protocol"] == "TCP":
        return ""
    return (
        f"{endpoint_of(facts)} took the request and closed without a word: a crash, a restart, a worker's timeout, or "
        "it speaks no plain HTTP/1.1; look into its log at this time"
    )


def _ut(_: str, facts: Facts) -> str:
    error = facts["error"]
    if "deadline" in error:
        return "the client's own deadline (`deadline_header`) had passed before the request could be sent"
    if "no free connection" in error:
        return "no connection became free in time: is the app slow, or `circuit_breaker.max_connections` too low?"
    last = last_try(facts)
    if "this try" in error:
        key = "`retry.per_try_timeout`"
        if last.get("connection") is None:
            return f"{endpoint_of(facts)} could not be connected to within {key}: is it far away, is it there at all?"
        return f"{endpoint_of(facts)} began no response within {key}: is the app slow, or that too short?"
    if len(facts["tries"]) > 1:
        return (
            f"`timeout` of the route is for all {facts['attempts']} tries and their pauses together: give it room for "
            "them, or set `retry.per_try_timeout`"
        )
    return (
        f"{endpoint_of(facts)} never began a response: is the app stuck or slow, or `timeout` of the route too short?"
    )


def _upe(_: str, facts: Facts) -> str:
    endpoint = endpoint_of(facts)
    return (
        _matched(
            (
                ("does not begin with http", f"does {endpoint} speak TLS, HTTP/2 or something else than HTTP/1.1?"),
                (
                    "response head is larger",
                    "a field of the response has grown, cookies mostly; else `max_header_bytes`",
                ),
                (
                    "header fields in the response",
                    "does the app repeat a field? Else raise `max_headers` of the cluster",
                ),
            ),
            facts["error"],
        )
        or f"ask the app directly and look at its response head: `curl -v http://{endpoint}/…`"
    )


def _urx(_: str, facts: Facts) -> str:
    tries = facts["tries"]
    endpoints = {each["endpoint"] for each in tries}
    if len(endpoints) == 1 and len(tries) > 1:
        return f"every try went to {endpoint_of(facts)}: with one endpoint more tries help little"
    if all(each["flag"] == "UF" for each in tries) and tries:
        return f"none of {len(endpoints)} endpoints could be connected to: is {facts['cluster']} up at all?"
    if len(endpoints) > 1:
        return (
            f"{len(endpoints)} endpoints failed in turn: the whole cluster is unwell, or the request itself breaks it"
        )
    return ""


# --- the client, the config ---


def _dc(_: str, facts: Facts) -> str:
    after = in_words(facts["duration"])
    if facts["protocol"] == "TCP":
        return f"the client's connection broke after {after}: look at the client"
    if facts["response_seconds"] is not None or facts["sent"]:
        return f"the client left after {after}, while it got its response: it was cancelled, or the client ended"
    if facts["tries"] or facts["attempts"]:
        return f"the client gave up after {after} without an answer: its timeout is shorter than what the app needed"
    return f"the client left after {after}, before the request was sent to the app"


def _nr(_: str, facts: Facts) -> str:
    listener = shlex.quote(facts["listener"])
    if "CONNECT" in facts["error"]:
        return "the route has no `connect: true`: does the client take meshlet for a forward proxy?"
    url = f"http://{facts['host'] or 'HOST'}{facts['target'] or '/'}"
    request = shlex.quote(f"{facts['method'] or 'GET'} {url}")
    return (
        f"no route of listener {listener} matches: `meshlet routes check CONFIG --listener {listener} --request "
        f"{request}` says why"
    )


def _si(_: str, facts: Facts) -> str:
    if "has said nothing" in facts["error"]:
        return (
            "the client was silent for `limits.head_timeout`: is it a server that speaks first that it waits for, and "
            "late? `protocol: tcp` dials at once"
        )
    if facts["protocol"] == "TCP":
        return "no byte for `limits.tcp_idle_timeout`: raise it, or have one side send keep-alives"
    if facts["status"] == 408:
        return "the client stopped sending its request: look at the client and the network before it"
    return ""


def _dpe(_: str, facts: Facts) -> str:
    if "only HTTP/1 can be held to" in facts["error"]:
        listener = shlex.quote(facts["listener"])
        return (
            f"a `cluster` of listener {listener} would get what is not HTTP/1; the routes' rules would not hold for it"
        )
    return {
        413: "the request body is larger than `max_body` of the route or listener allows",
        414: "the URL is longer than `limits.max_target_bytes`: does the client put data into it?",
        431: "too many or too large headers, cookies mostly: `limits.max_header_bytes`, `limits.max_headers`",
        505: "the client speaks another version of HTTP than 1.0 or 1.1 to this port",
    }.get(facts["status"], "")


def _fe(flag: str, _: Facts) -> str:
    name = flag.partition(":")[2]
    return f"meshlet's own log has the traceback of {name}, at this time" if name else ""


_HINTS: dict[str, Callable[[str, Facts], str]] = {
    "DC": _dc,
    "DPE": _dpe,
    "FE": _fe,
    "NR": _nr,
    "SI": _si,
    "UC": _uc,
    "UF": _uf,
    "UH": _uh,
    "UO": _uo,
    "UPE": _upe,
    "URX": _urx,
    "UT": _ut,
}
