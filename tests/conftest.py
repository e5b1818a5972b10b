"""What all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import tools

if TYPE_CHECKING:
    import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the programs that `@pytest.mark.system("nginx", "curl", root=True)` names, before any fixture runs."""
    for mark in item.iter_markers("system"):
        if mark.kwargs.get("root"):
            tools.require_root()
        for name in mark.args:
            tools.require(name)
