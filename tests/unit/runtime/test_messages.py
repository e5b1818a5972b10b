from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meshlet.config.load import load, loads
from meshlet.config.schema import Config
from meshlet.config.units import Duration, Size
from meshlet.runtime.messages import decode, encode
from meshlet.telemetry.metrics import Family, Histogram

CONFIGS = sorted((Path(__file__).parents[3] / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_arrives_as_it_was(path: Path) -> None:
    config = load(path)
    assert decode(encode(config), Config) == config


def test_units_arrive_exactly_and_with_their_types() -> None:
    config = loads(
        """
        listeners:
          - name: in
            address: "[::1]:0"
            limits: {idle_timeout: 0.1234567ms, max_body: 1025B}
            routes: [{cluster: app}]
          - name: unix
            address: unix:/tmp/x
            routes: [{cluster: app, match: {method: [GET, PUT]}}]
        clusters: [{name: app, endpoints: [localhost:1, "unix:/y"]}]
        """,
        "test",
    )
    copy = decode(encode(config), Config)
    assert copy == config
    limits = copy.listeners[0].limits
    assert (type(limits.idle_timeout), type(limits.max_body)) == (Duration, Size)
    assert copy.listeners[1].address.path == "/tmp/x"


def test_families_arrive_as_they_were() -> None:
    histogram = Histogram()
    histogram.observe(0.3)
    counter, durations = Family("a_total", "counter", "A."), Family("b", "histogram", "B.")
    counter.add(3, x="y")
    durations.add(histogram.data())
    assert decode(encode([counter, durations]), list[Family]) == [counter, durations]


def test_what_no_message_holds_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        encode(object())
    with pytest.raises(msgspec.ValidationError):
        decode(encode("text"), int)
