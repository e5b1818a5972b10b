"""HAR 1.2: http://www.softwareishard.com/blog/har-12-spec/."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

import meshlet
from meshlet.telemetry.tap import TapRead, Taps
from meshlet.telemetry.tap.har import HarFile, har_entry
from meshlet.timers import Timers
from tests.support.fakes import FakeLoop
from tests.unit.telemetry.tap.records import entries, play

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = {"type": "string"}
NUMBER = {"type": "number", "minimum": 0}
PAIRS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "value"],
        "properties": {"name": TEXT, "value": TEXT},
        "additionalProperties": False,
    },
}
OWN: dict[str, Any] = {"^_": {}}


def thing(optional: dict[str, Any] | None = None, **required: Any) -> dict[str, Any]:
    """An object that has these fields, and perhaps those, and nothing else but what begins with an underscore."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "patternProperties": OWN,
        "additionalProperties": False,
    }


SIZE = {"type": "integer", "minimum": -1}
REQUEST = thing(
    {"postData": thing(mimeType=TEXT, params={"type": "array", "maxItems": 0}, text=TEXT)},
    method=TEXT,
    url={"type": "string", "pattern": "^[a-z]+://."},
    httpVersion=TEXT,
    cookies=PAIRS,
    headers=PAIRS,
    queryString=PAIRS,
    headersSize=SIZE,
    bodySize=SIZE,
)
RESPONSE = thing(
    status={"type": "integer"},
    statusText=TEXT,
    httpVersion=TEXT,
    cookies=PAIRS,
    headers=PAIRS,
    content=thing({"text": TEXT, "encoding": {"const": "base64"}}, size={"type": "integer"}, mimeType=TEXT),
    redirectURL=TEXT,
    headersSize=SIZE,
    bodySize=SIZE,
)
ENTRY = thing(
    startedDateTime={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
    time=NUMBER,
    request=REQUEST,
    response=RESPONSE,
    cache=thing(),
    timings=thing(send=NUMBER, wait=NUMBER, receive=NUMBER),
)
HAR = Draft202012Validator(
    thing(
        log=thing(
            version={"const": "1.2"}, creator=thing(name=TEXT, version=TEXT), entries={"type": "array", "items": ENTRY}
        )
    )
)


@pytest.fixture
def shown() -> Callable[..., dict[str, Any]]:
    """Play an exchange and return it as a tap shows it."""
    loop = FakeLoop()
    taps = Taps(Timers(loop.time, loop.call_later), loop.time)
    read = TapRead("t", bodies=100)
    taps.read(read)

    def show(*arguments: Any, **changed: Any) -> dict[str, Any]:
        play(taps, *arguments, **changed)
        (entry,) = entries(taps, read)
        return entry

    return show


def load(path: Path) -> Any:
    har = json.loads(path.read_bytes())
    HAR.validate(har)
    return har["log"]["entries"]


def test_a_file_of_all_kinds_of_requests(tmp_path: Path, shown: Callable[..., dict[str, Any]]) -> None:
    path = tmp_path / "a.har"
    with HarFile(str(path)) as file:
        file.add(shown())
        file.add(shown("POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: image/png", b"\x89PNG"))
        file.add(shown("POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain", b"x" * 101))
        file.add(shown(answer=None, flag="DC", response_seconds=None, upstream_host=None))
        file.add(shown(answer=("HTTP/1.1 302 Found\r\nLocation: /y\r\nSet-Cookie: a=b", b"x"), status=302))
        file.add(shown("OPTIONS * HTTP/1.1\r\nHost: a"))
        file.add(shown("CONNECT b:443 HTTP/1.1\r\nHost: b:443"))
        file.add(shown("GET / HTTP/1.0", protocol="HTTP/1.0"))
        assert not path.exists()
        assert file.count == 8
    found = load(path)
    assert [entry["request"]["url"] for entry in found] == [
        "http://a.example/a?b=1",
        "http://a/x",
        "http://a/x",
        "http://a.example/a?b=1",
        "http://a.example/a?b=1",
        "http://a*",
        "http://b:443",
        "http://unknown.invalid/",
    ]
    assert found[1]["request"]["postData"]["_encoding"] == "base64"
    assert [entry["request"].get("postData", {}).get("_cut") for entry in found[:3]] == [None, False, True]
    assert (found[3]["response"]["status"], found[3]["_meshlet"]["flag"]) == (0, "DC")
    assert found[4]["response"]["redirectURL"] == "/y"
    assert found[4]["response"]["statusText"] == "Found"
    assert json.loads(path.read_bytes())["log"]["creator"] == {"name": "meshlet", "version": meshlet.__version__}


def test_an_entry(shown: Callable[..., dict[str, Any]]) -> None:
    entry = har_entry(shown(answer=("HTTP/1.1 200 OK\r\nContent-Type: text/plain", b"hi")))
    assert entry["startedDateTime"] == "2026-01-01T00:00:00.250000Z"
    assert entry["time"] == 500
    assert entry["timings"] == {"send": 100, "wait": 300, "receive": 100}
    assert entry["request"]["queryString"] == [{"name": "b", "value": "1"}]
    assert entry["request"]["headers"] == [{"name": "Host", "value": "a.example"}]
    assert entry["response"]["content"] == {"size": 2, "mimeType": "text/plain", "text": "hi", "_cut": False}


def test_secrets_in_json_are_in_neither_message(shown: Callable[..., dict[str, Any]]) -> None:
    entry = har_entry(
        shown(
            "POST /x?sess=s3cret HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Auth: s3cret",
            b'{"user": {"password": "s3cret"}, "a": 1}',
            (
                "HTTP/1.1 200 OK\r\nContent-Type: application/problem+json",
                b'[{"access": "s3cret", "b": 2}, {"pin": 123',
            ),
        )
    )
    assert "s3cret" not in json.dumps(entry)
    body = entry["request"]["postData"]
    assert (body["text"], body["_redacted"]) == ('{"user": {"password": "[redacted]"}, "a": 1}', True)
    content = entry["response"]["content"]
    assert (content["text"], content["_redacted"]) == ('[{"access": "[redacted]", "b": 2}, {"pin": "[redacted]"', True)


@pytest.mark.parametrize("times", [(None, None), (0.1, None), (None, 0.4), (0.4, 0.1), (9.0, 9.0)])
def test_timings_add_up(shown: Callable[..., dict[str, Any]], times: tuple[float | None, float | None]) -> None:
    entry = har_entry(shown(request_seconds=times[0], response_seconds=times[1]))
    assert sum(entry["timings"].values()) == pytest.approx(entry["time"])
    assert min(entry["timings"].values()) >= 0


def test_an_empty_file_and_one_that_is_interrupted_are_valid(
    tmp_path: Path, shown: Callable[..., dict[str, Any]]
) -> None:
    path = tmp_path / "a.har"
    with HarFile(str(path)):
        pass
    assert load(path) == []
    with suppress(KeyboardInterrupt), HarFile(str(path)) as file:
        file.add(shown())
        file._file.write(b',\n{"half":')  # an interrupt within a write
        raise KeyboardInterrupt
    assert len(load(path)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["a.har"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HarFile(str(tmp_path / "no" / "a.har"))
