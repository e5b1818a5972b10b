from __future__ import annotations

import os

from tests.fuzz.corpus import REQUESTS, RESPONSES
from tests.fuzz.invariants import check_requests, check_response
from tests.fuzz.run import run
from tests.support.codec import cuts

#: about ten seconds; `make fuzz` takes longer
ITERATIONS = int(os.environ.get("MESHLET_FUZZ_ITERATIONS", "30000"))
SEED = int(os.environ.get("MESHLET_FUZZ_SEED", "1"))


def test_the_corpus_itself() -> None:
    for data in REQUESTS:
        check_requests(data, cuts(data))
    for data in RESPONSES:
        for method in (b"GET", b"HEAD", b"CONNECT"):
            check_response(data, method, cuts(data))


def test_mutations_of_the_corpus() -> None:
    tally = run(ITERATIONS, SEED)
    # A fuzzer that hardly ever gets past the first line finds nothing.
    assert tally.accepted > tally.inputs / 20
    assert tally.refused > tally.inputs / 20
