"""What all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from tests.support import tools

if TYPE_CHECKING:
    import pytest

# How long an example takes to be made says more of a busy machine than of the test.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the programs that `@pytest.mark.system("nginx", "curl", root=True)` names, before any fixture runs."""
    for mark in item.iter_markers("system"):
        if mark.kwargs.get("root"):
            tools.require_root()
        for name in mark.args:
            tools.require(name)
