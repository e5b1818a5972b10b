"""docs/metrics.md says of every metric what it is, and knows no other."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meshlet.admin.scrape import ScrapeServer
from meshlet.telemetry.istio import STANDARD
from tests.unit.runtime.test_figures import STANDARD as STANDARD_LABELS
from tests.unit.runtime.test_figures import families, service_families

if TYPE_CHECKING:
    from meshlet.telemetry.metrics import Family

TEXT = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) ?\| \S.* \|$", re.MULTILINE)


class Described(NamedTuple):
    kind: str
    labels: frozenset[str]


def documented() -> dict[str, Described]:
    rows = ROW.findall(TEXT)
    found = {}
    for name, kind, labels in rows:
        names = set(re.findall(r"`(\w+)`", labels))
        found[name] = Described(kind, frozenset(names | STANDARD_LABELS if "standard" in labels else names))
    assert len(found) == len(rows), "a metric stands there twice"
    return found


async def existing() -> list[Family]:
    async def none() -> list[Family]:
        return []

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return [*families(), *service_families(), *ScrapeServer(sock, none).families()]


async def test_every_metric_is_in_the_docs_with_its_type_and_labels() -> None:
    described = {
        family.name: Described(family.kind, frozenset(name for each in family.samples for name, _ in each.labels))
        for family in await existing()
    }
    assert documented() == described


async def test_all_names_of_metrics_in_the_text_are_those_of_metrics() -> None:
    real = {family.name for family in await existing()} | set(STANDARD.values())
    real |= {f"{family.name}_bucket" for family in await existing() if family.kind == "histogram"}
    assert set(re.findall(r"\b(?:meshlet|istio)_\w+", TEXT)) <= real


def test_the_names_of_istio_are_in_the_docs() -> None:
    for ours, theirs in STANDARD.items():
        assert f"| `{ours}` | `{theirs}` |" in TEXT
