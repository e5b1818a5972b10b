from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.telemetry.redact_json import redact_json
from meshlet.telemetry.secret_names import is_secret

HIDDEN = "[redacted]"


def shown(text: str | bytes) -> str:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return redact_json(data, is_secret).decode("latin-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"user": "a", "password": "b"}', '{"user": "a", "password": "[redacted]"}'),
        ('{"pin":1234,"page":2}', '{"pin":"[redacted]","page":2}'),
        ('{"token":-1.5e+3}', '{"token":"[redacted]"}'),
        ('{"secret":true,"otp":false,"sid":null}', '{"secret":"[redacted]","otp":"[redacted]","sid":"[redacted]"}'),
        ('[{"a": [{"apiKey": "x"}]}]', '[{"a": [{"apiKey": "[redacted]"}]}]'),
        ('{"credentials": {"user": "a", "b": ["}", {}]}, "c": 1}', '{"credentials": "[redacted]", "c": 1}'),
        ('{"tokens": ["x", "y]", [1]], "c": 1}', '{"tokens": "[redacted]", "c": 1}'),
        ('{"password"\n:\t"x" ,\r\n"b":1 }', '{"password"\n:\t"[redacted]" ,\r\n"b":1 }'),
        ('{"password":"a","password":"b"}', '{"password":"[redacted]","password":"[redacted]"}'),
        (r'{"password":"a\"b\\","c":"d"}', '{"password":"[redacted]","c":"d"}'),
        (r'{"pass\u0077ord":"x"}', r'{"pass\u0077ord":"[redacted]"}'),
        (r'{"\u0050ASSWORD":"x","pass\/word":"y"}', r'{"\u0050ASSWORD":"[redacted]","pass\/word":"[redacted]"}'),
        (r'{"to\"ken":"x","a\\":"y","\\token":"z"}', r'{"to\"ken":"[redacted]","a\\":"y","\\token":"[redacted]"}'),
        (r'{"password\":":"x","a":"b"}', r'{"password\":":"[redacted]","a":"b"}'),
        (r'{"{\"pin\":\"x\"}" : "y"}', r'{"{\"pin\":[redacted]" : "[redacted]"}'),
        ('{":password":"x"}', '{":password":"[redacted]"}'),
        ('{"a":"v",":password":"x"}', '{"a":"v",":password":"[redacted]"}'),
        ('{"access":"x","refresh":"y"}', '{"access":"[redacted]","refresh":"[redacted]"}'),
        ('{"password":"x"}\n{"a":1}\n{"token":"y"}\n', '{"password":"[redacted]"}\n{"a":1}\n{"token":"[redacted]"}\n'),
        ('\ufeff{"password":"x"}', 'ï»¿{"password":"[redacted]"}'),
    ],
)
def test_values_of_secrets(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 7, "name": "password", "tags": ["token", ": x", "secret"], "ok": true}',
        '["password", "x"]',
        '{"a": "password: x", "b": ": y", "c": "\\"", "d": "\\\\"}',
        '{"next_page_token": "x", "primaryKey": 1, "status_code": 404}',
        '{"password":}',
        '{"password"',
        '{"password":',
        "",
        "password: x",
    ],
)
def test_the_rest_stays_as_it_is(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"password":"abc', '{"password":"[redacted]"'),
        ('{"password":"abc\\', '{"password":"[redacted]"'),
        ('{"password":"abc\\"', '{"password":"[redacted]"'),
        ('{"password":12', '{"password":"[redacted]"'),
        ('{"token":{"a":[1,{"b":"x"}', '{"token":"[redacted]"'),
        (b'{"password":"\xff\xfe","a":"\xc3', '{"password":"[redacted]","a":"Ã'),
        (b'{"pass\xffword":"x"}', '{"pass\xffword":"[redacted]"}'),
        ('{"a":"unterminated\n{"password":"x"}\n', '{"a":"unterminated\n{"password":"[redacted]"}\n'),
        ('{"a":"two\nlines","password":"x\ny"}', '{"a":"two\nlines","password":"[redacted]"}'),
        ('it\'s 5" wide: {"password":"x"}', 'it\'s 5" wide: {"password":"[redacted]"}'),
        ('cb({"token":"x"});', 'cb({"token":"[redacted]"});'),
        ('data: {"token":"x"}\n\ndata: {"a":1}\n', 'data: {"token":"[redacted]"}\n\ndata: {"a":1}\n'),
        ('{"secret":{"a":],"b":"x"},"c":1}', '{"secret":"[redacted]","c":1}'),
        ('{"secret":new Secret("a,b"),"c":1}', '{"secret":"[redacted]","c":1}'),
        ('{"secret" "token":"x"}', '{"secret" "token":"[redacted]"}'),
    ],
)
def test_what_is_cut_off_or_no_json(text: str | bytes, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ({"user": "a", "password": "b", "c": 1}, '{"user": "a", "password": [redacted]'),
        ({"user": "a", "token": {"b": '"}'}}, '{"user": "a", "token": [redacted]'),
        ({"user": "a", "password": 12}, '{"user": "a", "password": [redacted]'),
        ({"user": "a", "b": ["password"]}, '{"user": "a", "b": ["password"]}'),
    ],
)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_json_in_json(inner: dict[str, Any], expected: str, levels: int) -> None:
    text, wanted = json.dumps(inner), expected
    for _ in range(levels):
        text, wanted = json.dumps({"m": text, "n": 1}), json.dumps({"m": wanted, "n": 1})
    if "[redacted]" not in expected:
        assert shown(text) == wanted
    else:  # hidden is all that is left of the innermost string
        assert shown(text).startswith(wanted[: wanted.index("[redacted]") + len("[redacted]")])
        assert set(json.loads(shown(text))) == {"m", "n"}


def test_names_of_ones_own() -> None:
    assert redact_json(b'{"a":{"mine":1},"password":2}', lambda name: name == "mine") == (
        b'{"a":{"mine":"[redacted]"},"password":2}'
    )


# --- whatever the document ---

MARK = "s3cr3t-918273645"
KEYS = st.sampled_from(
    ["password", "apiKey", "access_token", "X-Auth", "pin", "sess", "refresh", ":token", 'to"ken', 'pin":']
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
PLAIN_KEYS = st.text(max_size=5).filter(lambda key: not is_secret(key))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_KEYS, inner, max_size=4),
    max_leaves=12,
)
SECRETS = st.recursive(
    st.sampled_from([MARK, f'"{MARK}', f"\\{MARK}\\", f"}}{MARK}]", f",{MARK}", f":{MARK}", 918273645]),
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.dictionaries(st.text(max_size=3), inner, min_size=1),
    max_leaves=3,
)
FORMATS: list[dict[str, Any]] = [{}, {"ensure_ascii": False}, {"indent": 1}, {"separators": (",", ":")}]
DUMPS = st.sampled_from(FORMATS)


@st.composite
def documents_with_secrets(draw: st.DrawFn) -> str:
    """A document that has MARK, or the number at its end, under secret keys at any place, and nowhere else."""
    found: Any = {draw(KEYS): draw(SECRETS)}
    for _ in range(draw(st.integers(0, 4))):
        before, after = draw(DOCUMENTS), draw(DOCUMENTS)
        if draw(st.booleans()):
            found = [before, found, after]
        else:
            found = {draw(PLAIN_KEYS): before, f"{draw(PLAIN_KEYS)} a": found, f"{draw(PLAIN_KEYS)} b": after}
    return json.dumps(found, **draw(DUMPS))


@settings(deadline=None, max_examples=50)  # a long document has many cuts
@given(documents_with_secrets())
def test_no_cut_of_a_document_shows_a_secret(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    for end in range(len(data) + 1):
        found = redact_json(data[:end], is_secret)
        assert b"s3" not in found
        assert b"9182" not in found
        assert redact_json(found, is_secret) == found


def without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if is_secret(key) else without_secrets(inner) for key, inner in value.items()}
    return [without_secrets(inner) for inner in value] if isinstance(value, list) else value


# Text that looks like a key within a string is hidden as one.
PROSE = st.text(st.characters(exclude_characters='":'), max_size=6)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | PROSE,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PROSE | KEYS.map(lambda k: k.strip(':"')), inner),
        max_leaves=15,
    ),
    DUMPS,
)
def test_json_stays_json_and_nothing_else_changes(document: Any, options: dict[str, Any]) -> None:
    data = json.dumps(document, **options).encode("utf-8", "surrogatepass")
    found = redact_json(data, is_secret)
    assert json.loads(found.decode("utf-8", "surrogatepass")) == without_secrets(document)
    if without_secrets(document) == document:
        assert found == data


@given(st.lists(st.sampled_from(['"', "\\", ":", "{", "}", "[", "]", ",", " ", "\n", "token", "a", "1", '"pin":'])))
def test_any_text_comes_to_the_same_the_second_time(pieces: list[str]) -> None:
    once = shown("".join(pieces))
    assert shown(once) == once


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "[",
            '{"token":',
            '{"a":',
            '"',
            '\\"',
            "\\",
            '"a" ',
            '\\"a":',
            '\\"token\\":',
            '{"token":1}',
            '"a',
            '"\\u005c',
        ),
        *('{"token":[],', "\\u005c", '":', '{"a":1},', "token_page", '"a\\":'),
    ],
)
def test_time_is_in_proportion_to_the_size(piece: str) -> None:
    def seconds(size: int) -> float:
        data = f'{{"token":{piece * (size // len(piece))}'.encode()[9:] + b'":1'
        began = time.process_time()
        redact_json(data, is_secret)
        return time.process_time() - began

    # Four times the size takes about four times the time, and would take sixteen times if it were quadratic.
    assert min(seconds(131072) for _ in range(2)) < 10 * min(seconds(32768) for _ in range(3)) + 0.02
