"""Constraints made of pyproject.toml, with which CI tries the lowest releases that it allows."""

from __future__ import annotations

import pytest

from tests.support.lowest import PYPROJECT, constraints

HEAD = '[project]\nname = "own"\n'


def test_each_dependency_is_held_to_its_lower_bound() -> None:
    text = (
        HEAD
        + 'dependencies = ["b>=1.2", "A-c~=2.0.1"]\n[project.optional-dependencies]\nx = ["own[y]", "d==3"]\ny = []'
    )
    assert constraints(text) == ["A-c==2.0.1", "b==1.2", "d==3"]


@pytest.mark.parametrize("requirement", ["b", "b<2", "b>=1,<2", "b[x]>=1", "b @ https://example.com/b.whl"])
def test_a_dependency_without_a_lower_bound_is_an_error(requirement: str) -> None:
    with pytest.raises(ValueError, match="expected NAME>=VERSION"):
        constraints(f'{HEAD}dependencies = ["{requirement}"]\n[project.optional-dependencies]')


def test_ours_have_one_each() -> None:
    found = constraints(PYPROJECT.read_text())
    assert any(line.startswith("uvloop==") for line in found)
    assert len({line.partition("==")[0] for line in found}) == len(found)
