"""Says why a request without a response flag is kept, and what to check about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.telemetry.explain.facts import endpoint_of, in_words, last_try

if TYPE_CHECKING:
    from meshlet.telemetry.explain.facts import Facts


def without_flag(facts: Facts) -> tuple[str, str]:
    """Return what happened, and what to check."""
    status, tries = facts["status"], facts["tries"]
    if status >= 500:
        if facts["acted"]:
            return (
                f"{', '.join(facts['acted'])} answered {status} in the app's stead",
                "look at the filters of the route",
            )
        if not facts["attempts"]:
            return f"the config answers {status} here", "look at `direct_response` of the route"
        return (
            f"the app itself answered {status}",
            f"look for {facts['request_id'] or 'this request'} in the log of {endpoint_of(facts)}",
        )
    if len(tries) > 1:
        return f"it was answered at try {facts['attempts']}", f"why try 1 failed: {tries[0]['reason'] or 'not known'}"
    return f"it went well, but took {in_words(facts['duration'])}", _slowest(facts)


def _slowest(facts: Facts) -> str:
    """Say where most of the time went."""
    duration, last = facts["duration"], last_try(facts)
    asked, answered = facts["request_seconds"] or 0.0, facts["response_seconds"]
    spans = [(asked, "until the client had sent its whole request: a slow client, or a large body")]
    if last:
        waited = last["connect"] or 0.0
        spans += [
            (waited, f"to get a connection to {last['endpoint']}: is it far away or busy, are all connections taken?"),
            (last["first_byte"] or 0.0, f"until {last['endpoint']} began its response: look at what the app does"),
        ]
    if answered is not None:
        spans.append((duration - answered, "for the response's body: a large one, a slow app or a slow client"))
    seconds, where = max(spans)
    return f"{in_words(seconds)} of it {where}"
