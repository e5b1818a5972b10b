from __future__ import annotations

import subprocess
import sys


def test_opentelemetry_is_loaded_with_the_first_span_only() -> None:
    modules = ", ".join(f"meshlet.telemetry.tracing.{name}" for name in ("context", "export", "resource", "tracer"))
    code = f"import sys, {modules}; print(*(sys.modules.keys() & {{'opentelemetry', 'requests', 'google.protobuf'}}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
