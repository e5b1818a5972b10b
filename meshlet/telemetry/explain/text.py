"""Explanations as text for a terminal: what happened, when, why, and what to check."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    Dump = dict[str, Any]


def as_text(explanations: Iterable[Dump]) -> str:
    """Return all of them, one below the other."""
    return "\n".join("".join(f"{line}\n" for line in _lines(each)) for each in explanations)


def _lines(facts: Dump) -> list[str]:
    lines = [_title(facts), ""]
    for reason in facts["reasons"]:
        # However long: a command in it must stay one that can be copied.
        lines.append(f"  {reason['flag']}: {reason['meaning']}" if reason["flag"] else f"  {reason['meaning']}")
        lines.append(f"    check: {reason['hint']}")
        if reason["link"]:
            lines.append(f"    more:  {reason['link']}")
    lines.append("")
    lines += [f"  {name:11} {value}" for name, value in _facts(facts) if value]
    lines += ["", "  timeline"]
    lines += [f"  {1000 * seconds:10.1f} ms  {what}" for seconds, what in _timeline(facts)]
    return lines


def _title(facts: Dump) -> str:
    if facts["protocol"] == "TCP":
        return f"TCP connection: {facts['flag'] or 'fine'}, after {facts['duration']:.3f} s"
    status = facts["status"] or "no response"
    flag = f" {facts['flag']}" if facts["flag"] else ""
    return f"{_request(facts)}: {status}{flag}, after {facts['duration']:.3f} s"


def _request(facts: Dump) -> str:
    """Return what was asked for; what was refused before it was a request has no method."""
    return f"{facts['method']} {facts['target']}" if facts["method"] else "not a request"


def _facts(facts: Dump) -> list[tuple[str, str | None]]:
    when = datetime.fromtimestamp(facts["time"], UTC)
    return [
        ("error", facts["error"]),
        ("when", f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"),
        ("request id", facts["request_id"]),
        ("trace id", facts["trace_id"]),
        ("client", facts["client"]),
        ("listener", facts["listener"]),
        ("direction", facts["direction"] if facts["direction"] != facts["listener"] else None),
        ("host", facts["host"]),
        ("route", facts["route"] or ("none matched" if "NR" in facts["flag"].split(",") else None)),
        ("cluster", facts["cluster"]),
        ("acted", ", ".join(facts["acted"])),
        ("bytes", f"{facts['received']} from the client, {facts['sent']} to it"),
    ]


def _timeline(facts: Dump) -> list[tuple[float, str]]:
    """Return what happened, and when: seconds after the request's head."""
    tcp = facts["protocol"] == "TCP"
    events = [(0.0, "the client connected" if tcp else "the request's head came")]
    if facts["request_seconds"] and facts["received"]:
        events.append((facts["request_seconds"], "the request was complete"))
    number = 0
    for each in facts["tries"]:
        if each["number"] > number + 1:
            events.append((each["began"], f"({facts['tries_left_out']} more tries before this one)"))
        number = each["number"]
        events += _of_try(each)
    if facts["response_seconds"] is not None:
        events.append((facts["response_seconds"], "the response's head came, and went to the client"))
    status = f" with {facts['status']}" if facts["status"] else " without a response"
    over = f"over{'' if tcp else status}{', ' + facts['flag'] if facts['flag'] else ''}"
    return [*sorted(events, key=lambda event: round(event[0], 6)), (facts["duration"], over)]


def _of_try(each: Dump) -> list[tuple[float, str]]:
    name = f"try {each['number']}"
    began, ended = each["began"], each["ended"]
    pooled = ", on a pooled connection" if each["connection"] == "pooled" else ""
    events = [(began, f"{name}: {each['endpoint']}{pooled}")]
    ready = began
    if each["connect"] is not None:
        ready += each["connect"]
        if each["connection"] is not None:
            events.append((ready, f"{name}: connected, after {1000 * each['connect']:.1f} ms"))
    if each["first_byte"] is not None:
        events.append((ready + each["first_byte"], f"{name}: answered {each['status']}"))
    if each["flag"]:
        events.append((ended, f"{name}: failed, {each['flag']}{': ' if each['reason'] else ''}{each['reason']}"))
    elif each["reason"]:
        events.append((ended, f"{name}: given up: {each['reason']}"))
    return events
