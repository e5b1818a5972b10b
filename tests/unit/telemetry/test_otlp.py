from __future__ import annotations

import pytest

from meshlet.telemetry.otlp import signal_url


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp", "https://c/otlp/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
        ("https://c?key=1", "https://c/v1/traces?key=1"),
    ],
)
def test_where_a_signal_is_posted_to(endpoint: str, url: str) -> None:
    assert signal_url(endpoint, "traces") == url
    assert signal_url(endpoint.replace("traces", "logs"), "logs") == url.replace("traces", "logs")
