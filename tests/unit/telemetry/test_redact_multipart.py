"""RFC 7578."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.telemetry.redact_multipart import redact_multipart
from meshlet.telemetry.secret_names import is_secret

TYPE = "multipart/form-data; boundary=XyZ"


def part(disposition: str, value: str, *fields: str) -> str:
    return "\r\n".join([f"--XyZ\r\nContent-Disposition: form-data; {disposition}", *fields, "", value, ""])


def shown(text: str | bytes, content_type: str = TYPE) -> str:
    data = text.encode() if isinstance(text, str) else text
    return redact_multipart(data, content_type, is_secret).decode("latin-1")


@pytest.mark.parametrize(
    ("disposition", "hidden"),
    [
        ('name="password"', True),
        ("name=password", True),
        ('NAME = "user[pass\\word]"', True),
        ('filename="a"; name="api_key"', True),
        ('name="key"; filename="id_rsa"', True),
        ("name*=UTF-8''access%5Ftoken", True),
        ('name="user"', False),
        ('name="file"; filename="password.txt"', False),
        ('name="page_token"', False),
    ],
)
def test_parts_are_hidden_by_their_names(disposition: str, hidden: bool) -> None:
    value = "a\r\n--Xy\r\n\r\nb=c"
    form = (
        part('name="a"', "1") + part(disposition, "{}", "Content-Type: text/plain") + part('name="z"', "2") + "--XyZ--"
    )
    assert shown(form.format(value)) == form.format("[redacted]" if hidden else value)


@pytest.mark.parametrize(
    "content_type", ['multipart/form-data; boundary="XyZ"', "multipart/form-data; Boundary=XyZ;a=b"]
)
def test_the_boundary_as_it_may_be_written(content_type: str) -> None:
    assert (
        shown(part('name="pin"', "a\r\n--b") + "--XyZ--", content_type) == part('name="pin"', "[redacted]") + "--XyZ--"
    )


def test_without_its_boundary_a_value_ends_with_whatever_may_be_one_or_with_all() -> None:
    form = part('name="pin"', "a") + part('name="b"', "c")
    assert shown(form, "multipart/form-data") == part('name="pin"', "[redacted]") + part('name="b"', "c")
    assert shown(form, "multipart/form-data; boundary=other").endswith('name="pin"\r\n\r\n[redacted]')


def test_bare_line_feeds_and_an_empty_value() -> None:
    form = '--XyZ\nContent-Disposition: form-data; name="pin"\n\n{}\n--XyZ--\n'
    assert shown(form.format("a\nb")) == form.format("[redacted]")
    empty = part('name="pin"', "") + part('name="a"', "1")
    assert shown(empty) == empty
    assert shown(b"\xff\x00") == "\xff\x00"


@given(st.lists(st.tuples(st.sampled_from(["a", "password", "user", "X-Api-Key"]), st.booleans()), max_size=4))
def test_no_cut_of_a_form_shows_a_secret(parts: list[tuple[str, bool]]) -> None:
    form = ""
    for name, file in parts:
        value = "s3cr3t\r\n\r\ns3cr3t" if is_secret(name) else "public\r\n"
        form += part(f'name="{name}"' + ('; filename="f"' if file else ""), value)
    data = (form + "--XyZ--\r\n").encode()
    found = b""
    for end in range(len(data) + 1):
        found = redact_multipart(data[:end], TYPE, is_secret)
        assert b"s3" not in found
        assert redact_multipart(found, TYPE, is_secret) == found
    assert found.count(b"public") == data.count(b"public")


@pytest.mark.parametrize(
    "piece", ["Content-Disposition: name=a\n", "Content-Disposition: name=key\n\n", "name=", "--XyZ\n"]
)
def test_many_parts_take_no_longer_than_their_size(piece: str) -> None:
    assert len(shown(piece * (1_000_000 // len(piece)))) <= 1_000_000
