from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.telemetry.redact import REDACTED, Redactor, as_text, printable, redact_pairs, redact_target


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "Set-Cookie",
        "X-API-Key",
        "Api_Key",
        "X-Auth-Token",
        "X-Amz-Security-Token",
        "X-Vault-Token",
        "X-Client-Secret",
        "X-Hub-Signature",
        "X-Csrf-Token",
        "X-Session-Id",
        "X-Auth",
        "Authentication",
        "X-Bearer",
        "X-User-Jwt",
        "X-Amzn-Oidc-Data",
        "X-Functions-Key",
        "Ocp-Apim-Subscription-Key",
        "X-Otp",
        "X-Session",
        "DPoP",
        "Sec-WebSocket-Protocol",
        "x-mine",
        "X_Mine",
    ],
)
def test_fields_that_are_hidden(name: str) -> None:
    assert Redactor(["X-Mine"]).fields([f"{name}: secret".encode()]) == [(name, REDACTED)]


@pytest.mark.parametrize(
    "line",
    [
        "Host: a",
        "Accept: */*",
        "X-Mine: b",
        "X-Key-Id: 7",
        "Content-Type: text/plain",
        "ETag: x",
        "Empty:",
        "Idempotency-Key: 7",
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Allow-Origin: *",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "WWW-Authenticate: Bearer",
        "X-Request-Id: 7",
    ],
)
def test_fields_that_are_shown(line: str) -> None:
    name, _, value = line.partition(":")
    assert Redactor().fields([line.encode()]) == [(name, value.strip())]


def test_urls_in_fields() -> None:
    lines = [
        b"Referer: https://user:pw@b/x?code=1&page=2",
        b"Location: /cb?access_token=abc#x",
        b"Location: /cb?state=1#access_token=abc&expires_in=60",
        b"Location: /plain",
        b"Refresh: 5; url=https://user:pw@b/x?token=abc",
    ]
    assert Redactor().fields(lines) == [
        ("Referer", "https://[redacted]@b/x?code=[redacted]&page=2"),
        ("Location", "/cb?access_token=[redacted]#x"),
        ("Location", "/cb?state=1#access_token=[redacted]&expires_in=60"),
        ("Location", "/plain"),
        ("Refresh", "5; url=https://[redacted]@b/x?token=[redacted]"),
    ]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("token=abc", "token=[redacted]"),
        ("token=abc&page=2", "token=[redacted]&page=2"),
        ("a=1&access_token=abc&b=2", "a=1&access_token=[redacted]&b=2"),
        ("a=1;PASSWORD=abc;b&c=1", "a=1;PASSWORD=[redacted]&c=1"),
        ("se=1&sig=abc;code=x", "se=1&sig=[redacted]"),
        ("X-Amz-Signature=abc&X-Amz-Date=1", "X-Amz-Signature=[redacted]&X-Amz-Date=1"),
        ("acc%65ss%5Ftoken=abc", "acc%65ss%5Ftoken=[redacted]"),
        ("user[password]=abc", "user[password]=[redacted]"),
        ("auth_code=abc&authCode=abc&design=x", "auth_code=[redacted]&authCode=[redacted]&design=x"),
        ("API_KEY=abc&apiKey=abc&APIKey=abc", "API_KEY=[redacted]&apiKey=[redacted]&APIKey=[redacted]"),
        ("PHPSESSID=abc", "PHPSESSID=[redacted]"),
        ("session=abc&sess=abc&passcode=1", "session=[redacted]&sess=[redacted]&passcode=[redacted]"),
        ("cred=abc&authcode=abc&userkey=abc", "cred=[redacted]&authcode=[redacted]&userkey=[redacted]"),
        ("access=abc&refresh=abc&samlart=abc", "access=[redacted]&refresh=[redacted]&samlart=[redacted]"),
        ("access_level=1&refresh_rate=2&next_page_token=3", "access_level=1&refresh_rate=2&next_page_token=3"),
        ("password=;ab&pin=?1&a=;b", "password=[redacted]&pin=[redacted]&a=;b"),
        ("password=ab;c=d&e=1", "password=[redacted]&e=1"),
        ("next=/cb?token=abc&a=1", "next=/cb?token=[redacted]&a=1"),
        ("variables=%7B%22password%22%3A%22x%22%7D&a=1", "variables=[redacted]&a=1"),
        ('variables={"a":[{"pin":1}],"b":"?;="}&a=1', "variables=[redacted]&a=1"),
        ("variables=%7B%22a%22%3A%22password%22%7D", "variables=%7B%22a%22%3A%22password%22%7D"),
        ("next=//me:p;w@host/&a=1", "next=//[redacted]@host/&a=1"),
        ("client+secret=abc", "client+secret=[redacted]"),
        ("key=abc&keyboard=x&monkey=3", "key=[redacted]&keyboard=x&monkey=3"),
        ("access-control-token=abc", "access-control-token=[redacted]"),
        ("sig=a=b", "sig=[redacted]"),
        ("token=x?y", "token=[redacted]"),
        ("token=&x=1", "token=&x=1"),
        ("token&x=1", "token&x=1"),
        ("q=token=abc", "q=token=abc"),
        ("a?token=b", "a?token=[redacted]"),
        ("next=https://me:pw@host/&mail=a@b", "next=https://[redacted]@host/&mail=a@b"),
    ],
)
def test_queries(query: str, shown: str) -> None:
    assert redact_target(f"/p?{query}".encode()) == f"/p?{shown}".encode()


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/a;jsessionid=abc/b;v=1?x=1", "/a;jsessionid=[redacted]/b;v=1?x=1"),
        ("/a&token=abc", "/a&token=[redacted]"),
        ("http://me:pw@host/a?b=1", "http://[redacted]@host/a?b=1"),
        ("HTTP://me:p@w@host/a", "HTTP://[redacted]@host/a"),
        ("//me:pw@host", "//[redacted]@host"),
        ("http://host/@me?a=b@c", "http://host/@me?a=b@c"),
        ("/a//b@c", "/a//b@c"),
        ("/token=abc/x", "/token=abc/x"),
        ("/path=abc", "/path=abc"),
        ("/ü", "/ü"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_paths_and_users(target: str, shown: str) -> None:
    assert redact_target(target.encode()) == shown.encode()


def test_a_password_in_a_form_is_hidden_to_its_end() -> None:
    assert redact_pairs(b"user=a&password=a#b?c&x=1") == b"user=a&password=[redacted]&x=1"


def test_bytes_become_text() -> None:
    assert as_text("/ü".encode()) == "/ü"
    assert as_text(redact_target(b"/\xff?password=\xfe")) == "/ÿ?password=[redacted]"


def test_what_a_terminal_would_obey_is_shown_as_text() -> None:
    assert printable(b"/caf\xc3\xa9/\xff\x1b[31m") == "/café/\\xff\\x1b[31m"
    assert printable("a\u202eb") == "a\\u202eb"


NAMES = st.sampled_from(["a", "token", "Client_Secret", "x-api-key", "q", "PWD", "page"])
VALUES = st.text(max_size=8)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_only_secrets_go_and_nothing_else_changes(pairs: list[tuple[str, str]]) -> None:
    shown = parse_qsl(redact_pairs(urlencode(pairs).encode()).decode(), keep_blank_values=True)
    public = {"a", "q", "page"}
    assert shown == [(name, value if name in public or not value else REDACTED) for name, value in pairs]


@given(st.text(), st.text(alphabet=st.characters(codec="utf-8", exclude_characters="&;#"), min_size=1))
def test_no_value_of_a_secret_is_left(before: str, value: str) -> None:
    assert redact_target(f"/?{before}&token={value}".encode()).endswith(b"&token=[redacted]")


def test_names_of_ones_own_hide_parameters_and_urls_too() -> None:
    redactor = Redactor(["X-Mine", "Location"])
    assert redactor.fields([b"Referer: /a?xMine=b&c=d", b"Location: /e"]) == [
        ("Referer", "/a?xMine=[redacted]&c=d"),
        ("Location", REDACTED),
    ]
    assert redact_target(b"/a;x_mine=b?x-mine=c", redactor.hides) == b"/a;x_mine=[redacted]?x-mine=[redacted]"


@given(st.lists(st.sampled_from(["token=", "a=", "&", ";", "?", "/", "#", "x", '"', ":", "//", "@", "%22", "{", "+"])))
def test_a_target_comes_to_the_same_the_second_time(pieces: list[str]) -> None:
    once = redact_target("".join(pieces).encode())
    assert redact_target(once) == once
