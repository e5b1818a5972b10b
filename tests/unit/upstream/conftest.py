from __future__ import annotations

import pytest

from meshlet.upstream.balancers import peak_ewma


@pytest.fixture
def only_by_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have peak EWMA send no request anywhere."""
    monkeypatch.setattr(peak_ewma, "_ANYWHERE", 0.0)
