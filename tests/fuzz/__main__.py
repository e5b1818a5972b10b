"""`python -m tests.fuzz`: minutes instead of the seconds of a test run, with another seed each time."""

from __future__ import annotations

import argparse
import random
import sys

from tests.fuzz.run import Broken, check_one, run


def main() -> int:
    """Run the fuzzer, or one input of an earlier run."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=…", description="Mutated HTTP/1.1 against the codec.")
    parser.add_argument("--seconds", type=float, default=120, help="how long (default 120)")
    parser.add_argument("--iterations", type=int, default=sys.maxsize, help="how many inputs at most")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="the seed of an earlier run")
    parser.add_argument("--number", type=int, help="try this one input of the seed only")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")  # noqa: T201
    try:
        if arguments.number is not None:
            check_one(arguments.seed, arguments.number)
            return 0
        tally = run(arguments.iterations, arguments.seed, arguments.seconds)
    except Broken as error:
        print(error)  # noqa: T201
        return 1
    print(f"{tally.inputs} inputs, {tally.accepted} accepted, {tally.refused} refused")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
