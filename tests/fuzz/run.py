"""The loop: take a seed, change it, see that the invariants hold."""

from __future__ import annotations

import time
from random import Random
from typing import NamedTuple

from tests.fuzz import corpus, mutate
from tests.fuzz.invariants import check_requests, check_response


class Tally(NamedTuple):
    """What a run met; one that only refuses, or never does, tests little."""

    inputs: int
    accepted: int
    refused: int


class Broken(Exception):
    """An invariant does not hold; the message has all it takes to see it again."""


def run(iterations: int, seed: int, seconds: float = float("inf")) -> Tally:
    """Try so many inputs, or as many as the time allows. Raises Broken."""
    accepted = refused = number = 0
    end = time.monotonic() + seconds
    while number < iterations and time.monotonic() < end:
        if check_one(seed, number):
            accepted += 1
        else:
            refused += 1
        number += 1
    return Tally(number, accepted, refused)


def check_one(seed: int, number: int) -> bool:
    """Try one input and return whether it was accepted. Raises Broken."""
    random = Random(f"{seed} {number}")  # an input can be had again without those before it
    as_request = random.random() < 0.6
    data = mutate.mutated(random, corpus.REQUESTS if as_request else corpus.RESPONSES)
    method = random.choice(corpus.METHODS)
    cuts = list(mutate.some_cuts(random, data))
    try:
        outcome = check_requests(data, cuts) if as_request else check_response(data, method, cuts)
    except Exception as error:
        what = "a request" if as_request else f"a response to {method.decode()}"
        raise Broken(f"{error!r}\nseed {seed}, number {number}, {what}:\n{data!r}") from error
    return outcome.refusal is None
