from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.processes import parse_cpu_ticks
from benchmarks.proxies import ALL, PEERS, render
from meshlet.config.load import loads

VALUES = {
    "port": 18080,
    "backend_port": 18081,
    "admin_port": 18082,
    "sink_port": 18083,
    "meshlet_protocol": "http",
    "user": "nobody",
    "workdir": "/tmp/bench",
    "nginx_modules": "/usr/lib/nginx/modules",
}


def test_a_line_with_a_route_is_repeated_for_each() -> None:
    template = 'listen @@port;\n"@type": $scheme %[path]\nlocation @@route {}\n'
    assert render(template, {"port": 80}, ["/a", "/b"]) == (
        'listen 80;\n"@type": $scheme %[path]\nlocation /a {}\nlocation /b {}\n'
    )


@pytest.mark.parametrize("template", sorted(PEERS.rglob("*.tmpl")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_template_is_filled_completely(template: Path) -> None:
    assert "@@" not in render(template.read_text(encoding="utf-8"), VALUES, ["/"])


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_every_proxy_has_a_template_for(mode: str) -> None:
    assert all((PEERS / mode / f"{proxy.config}.tmpl").exists() for proxy in ALL.values())


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_meshlets_template_fits_its_schema(mode: str) -> None:
    text = (PEERS / mode / "meshlet.yaml.tmpl").read_text(encoding="utf-8")
    config = loads(render(text, VALUES, ["/a", "/b"]), "meshlet.yaml")
    assert config.listeners[0].protocol == mode
    assert len(config.listeners[0].routes) == (2 if mode == "http" else 0)


def test_cpu_ticks_count_ended_children_and_survive_odd_names() -> None:
    stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 10 20 3 4 20 0 1 0 100 1 1 1\n"
    assert parse_cpu_ticks(stat) == 10 + 20 + 3 + 4
