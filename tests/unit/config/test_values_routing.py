"""The checks of values that routing takes from a config."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from meshlet.config import values
from meshlet.config.regex import compile_regex

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD: dict[Callable[[str], None], list[str]] = {
    values.host_name: ["a", "a.example", "a_b", "127.0.0.1", "::1", "2001:db8::1", "a.b.", "1a.2"],
    values.authority: ["a", "a.example:8080", "127.0.0.1:80", "[::1]", "[2001:db8::1]:443", "A.Example"],
    values.field_name: ["x-user", "X_User", "a!#$%&'*+.^_`|~9"],
    values.matched_field: ["x-user", "Host", "x-request-id", "upgrade", "transfer-encoding", "cookie"],
    values.appended_field: ["x-user", "vary"],
    values.field_template: ["a", "%REQ(x-user)%", "100 %%", "a b"],
    values.origin: [
        "*",
        "null",
        "https://app.example.com",
        "https://*.example.com",
        "http://localhost:3000",
        "http://[::1]:3000",
        "app+x://a",
    ],
    values.python_class: ["a:B", "a.b.c:D", "_a:_b"],
    values.regex: ["", "/a/[0-9]+", "(?i)a", r"\d{1,1000}", "a.*b|c$"],
    values.substitution: ["", "/a", r"/\1/\0", "\\\\", "%20", "[x]"],
}
BAD: dict[Callable[[str], None], dict[str, str]] = {
    values.host_name: dict.fromkeys(
        ["", "a:80", "[::1]", "1.2.3", "256.1.1.1", "a b", "a/b", "-a", "fe80::1%eth0", "a\n"], "without a port"
    ),
    values.authority: dict.fromkeys(
        ["", "a:", ":80", "a:0", "a:65536", "a:1:2", "::1", "[a]", "[::1", "u@a", "a/b", "a b", "1.2.3:4", "a\n"],
        "HOST or HOST:PORT",
    ),
    values.field_name: dict.fromkeys(["", "a b", "a:", ":path", "ü", "a\n"], "a token of RFC 9110"),
    values.matched_field: {
        **dict.fromkeys(["Connection", "TE", "keep-alive", "proxy-connection"], "no route sees it"),
        "a b": "a token",
    },
    values.appended_field: dict.fromkeys(["Cookie", "set-cookie"], "`add` in place of `append`"),
    values.field_template: {
        "": "`remove` takes a header away",
        " a": "without white space around it",
        "a\r\nb": "printable ASCII",
        "%NO%": "one of the placeholders",
        "50%": "%% for a percent sign",
    },
    values.origin: dict.fromkeys(
        ["", "app", "https://", "https://a/", "https://A.example", "https://a.*", "http://a:65536", "HTTPS://a", "a\n"],
        "an origin such as",
    ),
    values.python_class: dict.fromkeys(["", "a", "a:", ":B", "a.:B", "a:B.C", "a b:C", "class:B"], "package.module"),
    values.regex: {
        "(": "missing )",
        "(?<=a)b": "a regular expression of RE2 (invalid perl operator",
        r"\1": "invalid escape sequence",
        "ü": "in ASCII",
    },
    values.substitution: dict.fromkeys(["?", "#", "a b", "\\", r"\n", r"\g<1>", "ü", "a\n"], "characters of a path"),
}


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, good in GOOD.items() for value in good])
def test_good(check: Callable[[str], None], value: str) -> None:
    check(value)


@pytest.mark.parametrize(
    ("check", "value", "words"), [(check, value, words) for check, bad in BAD.items() for value, words in bad.items()]
)
def test_bad(check: Callable[[str], None], value: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check(value)


EITHER = [
    "Content-Length", "transfer-encoding", "Connection", "upgrade", "te", "trailer", "keep-alive", "proxy-connection",
    "x-envoy-attempt-count", "Content_Length", "a b",
]  # fmt: skip


@pytest.mark.parametrize("name", EITHER)
@pytest.mark.parametrize("request_rules", [True, False])
def test_fields_that_no_rule_may_change(name: str, request_rules: bool) -> None:
    with pytest.raises(ValueError, match=r"another header|a token"):
        values.changed_field(name, request=request_rules)


@pytest.mark.parametrize("name", ["host", "x-forwarded-for", "x-request-id", "Expect", "X_Forwarded_Proto"])
def test_fields_of_requests_that_no_rule_may_change(name: str) -> None:
    with pytest.raises(ValueError, match="another header"):
        values.changed_field(name, request=True)
    values.changed_field(name, request=False)


@pytest.mark.parametrize("name", ["date", "X-Envoy-Upstream-Service-Time"])
def test_fields_of_responses_that_no_rule_may_change(name: str) -> None:
    with pytest.raises(ValueError, match="meshlet writes this one itself"):
        values.changed_field(name, request=False)
    values.changed_field(name, request=True)


@pytest.mark.parametrize("name", ["x-user", "cookie", "Set-Cookie", "authorization", "server", "content-type", "via"])
@pytest.mark.parametrize("request_rules", [True, False])
def test_fields_that_rules_may_change(name: str, request_rules: bool) -> None:
    values.changed_field(name, request=request_rules)


def test_who_may_not_change_the_host_is_told_who_may() -> None:
    with pytest.raises(ValueError, match=re.escape("`rewrite.host` is for this one")):
        values.changed_field("Host", request=True)


def test_references_are_to_groups_that_there_are() -> None:
    values.references(r"\0\1\2", "(a)(b)")
    values.references(r"\\3", "(a)(b)")
    with pytest.raises(ValueError, match=re.escape(r"which are 2, so not \3")):
        values.references(r"\3", "(a)(b)")


def test_an_expression_sees_bytes() -> None:
    assert compile_regex(".").fullmatch(b"\xff") is not None
    assert compile_regex("a.b").fullmatch(b"a\nb") is not None
    assert compile_regex("(a)(b)").groups == 2
    with pytest.raises(ValueError, match="missing"):
        compile_regex("(")


def test_an_expression_takes_linear_time() -> None:
    # A backtracking matcher would not end.
    assert compile_regex("(a*)*" * 5 + "b").fullmatch(b"a" * 5000) is None
