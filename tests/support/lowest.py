"""Prints pip constraints that hold what pyproject.toml asks for by name at the lowest release that it allows.

    python -m tests.support.lowest > constraints.txt

`make lowest` runs the tests with these, so that a lower bound is a promise somebody has tried.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:>=|~=|==)\s*(?P<lowest>[0-9][A-Za-z0-9.]*)")


def constraints(text: str) -> list[str]:
    """Return a line for each dependency of a pyproject.toml. Raises ValueError for one without a lower bound."""
    project = tomllib.loads(text)["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    own = f"{project['name']}["  # a group that another one includes
    return sorted({_lowest(each) for group in groups for each in group if not each.startswith(own)})


def _lowest(requirement: str) -> str:
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ValueError(f"found {requirement!r}, expected NAME>=VERSION, NAME~=VERSION or NAME==VERSION")
    return f"{match['name']}=={match['lowest']}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints(PYPROJECT.read_text())) + "\n")
