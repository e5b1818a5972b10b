"""Every kind of mistake that a config file can have, with the exact line that names it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlet.config.load import ConfigError, Mistake, Unreadable, load, loads
from meshlet.config.schema import Config, Match
from meshlet.config.units import Address, Duration, Size

CONFIGS = sorted((Path(__file__).parents[3] / "config").glob("*.yaml"))

GOOD = """\
listeners:
  - name: inbound
    address: 127.0.0.1:8000
    routes:
      - cluster: app
clusters:
  - name: app
    endpoints: [127.0.0.1:8080]
"""


def mistakes_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "c.yaml")
    return [str(mistake) for mistake in caught.value.mistakes]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} must be in the good config once, or the change does not say which"
    return GOOD.replace(old, new)


def test_without_descriptors_a_mistake_is_told_of_without_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = changed("cluster: app", "cluster: ap")
    assert mistakes_of(wrong)[0].endswith('expected the name of a cluster (did you mean "app"?)')
    monkeypatch.setitem(sys.modules, "difflib", None)
    assert mistakes_of(wrong)[0].endswith("found 'ap', expected the name of a cluster")


def test_the_good_config_is_good() -> None:
    config = loads(GOOD, "c.yaml")
    assert config.listeners[0].address == Address("127.0.0.1", 8000)
    assert config.listeners[0].routes[0].match == Match()
    assert config.clusters[0].endpoints == (Address("127.0.0.1", 8080),)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_example_configs_load(path: Path) -> None:
    assert isinstance(load(path), Config)


def test_there_are_example_configs() -> None:
    assert {path.name for path in CONFIGS} >= {"minimal.yaml", "resilience.yaml", "routing.yaml", "sidecar.yaml"}


PATH_WORDS = "a path that starts with / and holds neither ? nor #, nor white space; other characters percent-encoded"
HOST_WORDS = "a host name without a port, or *. and a host name; without the key every host matches"
HANG_WORDS = "at least 3s: a busy worker must not be taken for one that hangs"
CONFIG_KEYS = "listeners, clusters, telemetry, log, admin, health, shutdown, reload, workers, zone"
CIDR_WORDS = "a network in CIDR notation such as 10.0.0.0/8 or fc00::/7"
NAME_WORDS = "a name of at most 128 letters, digits, `.`, `_` and `-`, with a letter or digit at both ends"
DURATION_WORDS = "a duration such as 250ms, 2s, 5m or 1h"
ADDRESS_WORDS = "an address HOST:PORT, [IPV6]:PORT or unix:/PATH"


# One entry: its id, what is put in the place of what, and the whole line that must come of it.
CHANGES = {
    "unknown key": (
        "clusters:\n",
        "verbose: 1\nclusters:\n",
        f"c.yaml:6: verbose: found the unknown key 'verbose', expected one of {CONFIG_KEYS}",
    ),
    "misspelt key, which is not also missing": (
        "      - cluster: app",
        "      - clutser: app",
        "c.yaml:5: listeners[0].routes[0].clutser: found the unknown key 'clutser', expected a known one"
        ' (did you mean "cluster"?)',
    ),
    "missing key": (
        "    address: 127.0.0.1:8000\n",
        "",
        "c.yaml:2: listeners[0].address: found nothing, expected this key, which is required: "
        "HOST:PORT to listen on; port 0 lets the kernel choose",
    ),
    "duplicate key": (
        "    address: 127.0.0.1:8000\n",
        "    address: 127.0.0.1:8000\n    address: 127.0.0.1:8000\n",
        "c.yaml:4: listeners[0].address: found the key a second time (first on line 3), expected each key once",
    ),
    "merge key": (
        "      - cluster: app",
        "      - <<: {cluster: app}\n        cluster: app",
        "c.yaml:5: listeners[0].routes[0].'<<': found a merge key, expected the keys themselves; "
        "YAML 1.2 has no merge keys",
    ),
    "a key that is a list": (
        "clusters:\n",
        "[a]: b\nclusters:\n",
        f"c.yaml:6: 'a list': found the unknown key 'a list', expected one of {CONFIG_KEYS}",
    ),
    "text for a mapping": (
        "clusters:\n",
        "reload: sometimes\nclusters:\n",
        "c.yaml:6: reload: found 'sometimes', expected a mapping with watch, interval",
    ),
    "nothing for a mapping": (
        "clusters:\n",
        "reload:\nclusters:\n",
        "c.yaml:6: reload: found nothing, expected a mapping with watch, interval",
    ),
    "a mapping for a list": (
        "[127.0.0.1:8080]",
        "{a: b}",
        "c.yaml:8: clusters[0].endpoints: found a mapping, expected a list",
    ),
    "a list for text": (
        "name: inbound",
        "name: [inbound]",
        "c.yaml:2: listeners[0].name: found a list, expected text",
    ),
    "an empty list": (
        "[127.0.0.1:8080]",
        "[]",
        "c.yaml:8: clusters[0].endpoints: found an empty list, expected a list that is not empty, "
        "or discovery in its place",
    ),
    "a number for text": (
        "name: inbound",
        "name: 8080",
        'c.yaml:2: listeners[0].name: found 8080, expected text; put it in quotes: "8080"',
    ),
    "a truth value for text": (
        "name: inbound",
        "name: true",
        'c.yaml:2: listeners[0].name: found true, expected text; put it in quotes: "true"',
    ),
    "nothing for text": ("name: inbound", "name:", "c.yaml:2: listeners[0].name: found nothing, expected text"),
    "a mapping for text or a list": (
        "- cluster: app",
        "- match: {method: {GET: true}}\n        cluster: app",
        "c.yaml:5: listeners[0].routes[0].match.method: found a mapping, expected text or a list",
    ),
    "empty text": (
        "clusters:\n",
        "telemetry: {access_log: {path: ''}}\nclusters:\n",
        "c.yaml:6: telemetry.access_log.path: found '', expected text that is not empty",
    ),
    "a file name that would break lines": (
        "clusters:\n",
        'telemetry: {access_log: {path: "/var/log\\n"}}\nclusters:\n',
        "c.yaml:6: telemetry.access_log.path: found '/var/log\\n', "
        "expected the path of a file, in printable characters",
    ),
    "no truth value": (
        "clusters:\n",
        "reload: {watch: yes}\nclusters:\n",
        "c.yaml:6: reload.watch: found 'yes', expected true or false",
    ),
    "none of the choices": (
        "clusters:\n",
        "log: {level: warn}\nclusters:\n",
        "c.yaml:6: log.level: found 'warn', expected one of debug, error, info, warning (did you mean \"warning\"?)",
    ),
    "no whole number": (
        "    routes:",
        "    limits: {max_headers: 1.5}\n    routes:",
        "c.yaml:4: listeners[0].limits.max_headers: found 1.5, expected a whole number from 1 to 1000000000",
    ),
    "a truth value for a number": (
        "    routes:",
        "    limits: {max_headers: true}\n    routes:",
        "c.yaml:4: listeners[0].limits.max_headers: found true, expected a whole number from 1 to 1000000000",
    ),
    "a number out of range": (
        "    routes:",
        "    limits: {max_headers: 0}\n    routes:",
        "c.yaml:4: listeners[0].limits.max_headers: found 0, expected a whole number from 1 to 1000000000",
    ),
    "bad name": (
        "name: inbound",
        'name: "in\\nbound"',
        f"c.yaml:2: listeners[0].name: found 'in\\nbound', expected {NAME_WORDS}",
    ),
    "bad name that ends with a line feed": (
        "name: inbound",
        'name: "inbound\\n"',
        f"c.yaml:2: listeners[0].name: found 'inbound\\n', expected {NAME_WORDS}",
    ),
    "long name, cut": (
        "name: inbound",
        f"name: {'x' * 129}",
        f"c.yaml:2: listeners[0].name: found '{'x' * 60}…', expected {NAME_WORDS}",
    ),
    "duration without a unit": (
        "- cluster: app",
        "- cluster: app\n        timeout: 15",
        f"c.yaml:6: listeners[0].routes[0].timeout: found 15, expected {DURATION_WORDS}",
    ),
    "duration of zero": (
        "clusters:\n",
        "reload: {interval: 0}\nclusters:\n",
        "c.yaml:6: reload.interval: found 0, expected a duration above 0",
    ),
    "a worker may not hang at all": (
        "clusters:\n",
        "workers: {hang_timeout: 0s}\nclusters:\n",
        f"c.yaml:6: workers.hang_timeout: found '0s', expected {HANG_WORDS}",
    ),
    "a worker may not even hesitate": (
        "clusters:\n",
        "workers: {hang_timeout: 2999ms}\nclusters:\n",
        f"c.yaml:6: workers.hang_timeout: found '2999ms', expected {HANG_WORDS}",
    ),
    "how many workers there are is no matter of the config": (
        "clusters:\n",
        "workers: 4\nclusters:\n",
        "c.yaml:6: workers: found 4, expected a mapping with hang_timeout",
    ),
    "bad size": (
        "- cluster: app",
        "- cluster: app\n        max_body: 3kb",
        "c.yaml:6: listeners[0].routes[0].max_body: found '3kb', expected a size in bytes such as 512, 64KiB or 10MiB",
    ),
    "size too small": (
        "    routes:",
        "    limits: {max_header_bytes: 1023}\n    routes:",
        "c.yaml:4: listeners[0].limits.max_header_bytes: found 1023, expected a size of at least 1KiB",
    ),
    "no address": (
        "[127.0.0.1:8080]",
        "[127.0.0.1]",
        f"c.yaml:8: clusters[0].endpoints[0]: found '127.0.0.1', expected {ADDRESS_WORDS}",
    ),
    "a port that does not exist": (
        "127.0.0.1:8000",
        "127.0.0.1:70000",
        "c.yaml:3: listeners[0].address: found '127.0.0.1:70000', expected a port between 0 and 65535",
    ),
    "an endpoint on port 0": (
        "[127.0.0.1:8080]",
        "[app:0]",
        "c.yaml:8: clusters[0].endpoints[0]: found 'app:0', expected a port between 1 and 65535",
    ),
    "listening on a name": (
        "127.0.0.1:8000",
        "example.com:8000",
        "c.yaml:3: listeners[0].address: found 'example.com:8000', "
        "expected an IP address, localhost or unix:/PATH to listen on",
    ),
    "admin for everyone": (
        "clusters:\n",
        "admin: {address: 0.0.0.0:15000}\nclusters:\n",
        "c.yaml:6: admin.address: found '0.0.0.0:15000', "
        "expected a loopback address such as 127.0.0.1:15000, because the port has no authentication",
    ),
    "admin on a name that begins like a loopback address": (
        "clusters:\n",
        "admin: {address: 127.0.0.1.example.com:15000}\nclusters:\n",
        "c.yaml:6: admin.address: found '127.0.0.1.example.com:15000', "
        "expected a loopback address such as 127.0.0.1:15000, because the port has no authentication",
    ),
    "host with a port": (
        "- cluster: app",
        "- cluster: app\n        match: {host: 'a:80'}",
        f"c.yaml:6: listeners[0].routes[0].match.host: found 'a:80', expected {HOST_WORDS}",
    ),
    "host with a star elsewhere": (
        "- cluster: app",
        "- cluster: app\n        match: {host: 'a.*.b'}",
        f"c.yaml:6: listeners[0].routes[0].match.host: found 'a.*.b', expected {HOST_WORDS}",
    ),
    "prefix without a slash": (
        "- cluster: app",
        "- cluster: app\n        match: {prefix: v2}",
        f"c.yaml:6: listeners[0].routes[0].match.prefix: found 'v2', expected {PATH_WORDS}",
    ),
    "prefix with a query": (
        "- cluster: app",
        "- cluster: app\n        match: {prefix: '/v2?a'}",
        f"c.yaml:6: listeners[0].routes[0].match.prefix: found '/v2?a', expected {PATH_WORDS}",
    ),
    "path with a fragment": (
        "- cluster: app",
        "- cluster: app\n        match: {path: '/v2#a'}",
        f"c.yaml:6: listeners[0].routes[0].match.path: found '/v2#a', expected {PATH_WORDS}",
    ),
    "path with a control character": (
        "- cluster: app",
        '- cluster: app\n        match: {path: "/v2\\n"}',
        f"c.yaml:6: listeners[0].routes[0].match.path: found '/v2\\n', expected {PATH_WORDS}",
    ),
    "bad regex": (
        "- cluster: app",
        "- cluster: app\n        match: {regex: '/(v2'}",
        "c.yaml:6: listeners[0].routes[0].match.regex: found '/(v2', "
        "expected a regular expression of RE2 (missing ): /(v2)",
    ),
    "regex that RE2 has not": (
        "- cluster: app",
        r"""- cluster: app
        match: {regex: '/(a)\1'}""",
        r"c.yaml:6: listeners[0].routes[0].match.regex: found '/(a)\\1', "
        r"expected a regular expression of RE2 (invalid escape sequence: \1)",
    ),
    "regex that can never match": (
        "- cluster: app",
        "- cluster: app\n        match: {regex: /é}",
        "c.yaml:6: listeners[0].routes[0].match.regex: found '/é', "
        "expected a regular expression in ASCII, because a path holds other characters percent-encoded",
    ),
    "two conditions on the path": (
        "- cluster: app",
        "- cluster: app\n        match:\n          path: /a\n          prefix: /",
        "c.yaml:8: listeners[0].routes[0].match.prefix: found path and prefix, expected only one of prefix, path "
        "and regex",
    ),
    "no method": (
        "- cluster: app",
        "- cluster: app\n        match: {method: [GET, 'P T']}",
        "c.yaml:6: listeners[0].routes[0].match.method[1]: found 'P T', "
        "expected a method, which is a token of RFC 9110 such as GET",
    ),
    "no methods": (
        "- cluster: app",
        "- cluster: app\n        match: {method: []}",
        "c.yaml:6: listeners[0].routes[0].match.method: found an empty list, expected a list that is not empty",
    ),
    "no upgrade": (
        "- cluster: app",
        "- cluster: app\n        upgrades: ['a b']",
        "c.yaml:6: listeners[0].routes[0].upgrades[0]: found 'a b', "
        "expected a protocol name, which is a token of RFC 9110 such as websocket",
    ),
    "h2c": (
        "- cluster: app",
        "- cluster: app\n        upgrades: [websocket, H2C]",
        "c.yaml:6: listeners[0].routes[0].upgrades[1]: found 'H2C', "
        "expected another protocol: requests inside an h2c tunnel would pass by every route and limit",
    ),
    "an address for a network": (
        "    routes:",
        "    trusted_peers: [10.0.0.1]\n    routes:",
        f"c.yaml:4: listeners[0].trusted_peers[0]: found '10.0.0.1', expected {CIDR_WORDS}",
    ),
    "a network that is none": (
        "    routes:",
        "    trusted_peers: [10.0.0.0/33]\n    routes:",
        f"c.yaml:4: listeners[0].trusted_peers[0]: found '10.0.0.0/33', expected {CIDR_WORDS}",
    ),
    "a network with host bits": (
        "    routes:",
        "    trusted_peers:\n    - 10.0.0.0/8\n    - 10.0.0.1/8\n    routes:",
        "c.yaml:6: listeners[0].trusted_peers[1]: found '10.0.0.1/8', "
        "expected a network, which has no bits set after its prefix: 10.0.0.0/8",
    ),
    "a cluster that does not exist": (
        "- cluster: app",
        "- cluster: ap",
        "c.yaml:5: listeners[0].routes[0].cluster: found 'ap', expected the name of a cluster"
        ' (did you mean "app"?)',
    ),
    "a listener's cluster that does not exist": (
        "    routes:",
        "    cluster: database\n    routes:",
        "c.yaml:4: listeners[0].cluster: found 'database', expected the name of a cluster",
    ),
    "a required cluster that does not exist": (
        "clusters:\n",
        "health:\n  address: 0.0.0.0:15021\n  require:\n    - app\n    - APP\nclusters:\n",
        "c.yaml:10: health.require[1]: found 'APP', expected the name of a cluster (did you mean \"app\"?)",
    ),
    "two listeners of one name": (
        "clusters:\n",
        "  - name: inbound\n    address: 127.0.0.1:8001\n    routes: [{cluster: app}]\nclusters:\n",
        "c.yaml:6: listeners[1].name: found 'inbound', which is listeners[0] too, expected a name of its own",
    ),
    "two clusters of one name": (
        "clusters:\n",
        "clusters:\n  - {name: app, endpoints: [unix:/run/app.sock]}\n",
        "c.yaml:8: clusters[1].name: found 'app', which is clusters[0] too, expected a name of its own",
    ),
    "two listeners on one address": (
        "clusters:\n",
        "  - name: other\n    address: 127.0.0.1:8000\n    routes: [{cluster: app}]\nclusters:\n",
        "c.yaml:7: listeners[1].address: found '127.0.0.1:8000', where listeners[0] listens too, "
        "expected an address of its own",
    ),
    "admin on a listener's address": (
        "clusters:\n",
        "admin: {address: 127.0.0.1:8000}\nclusters:\n",
        "c.yaml:6: admin.address: found '127.0.0.1:8000', where listeners[0] listens too, "
        "expected an address of its own",
    ),
    "http without routes": (
        "    routes:\n      - cluster: app\n",
        "    protocol: http\n",
        "c.yaml:2: listeners[0].routes: found no routes, expected at least one for protocol http",
    ),
    "auto without routes": (
        "    routes:\n      - cluster: app\n",
        "    routes: []\n",
        "c.yaml:4: listeners[0].routes: found no routes, expected at least one for protocol auto",
    ),
    "tcp without a cluster": (
        "    routes:\n      - cluster: app\n",
        "    protocol: tcp\n    routes: [{cluster: app, match: {prefix: /v2}}]\n",
        "c.yaml:2: listeners[0].cluster: found nothing, "
        "expected the cluster that gets the connections of protocol tcp",
    ),
    "no time to drain": (
        "clusters:\n",
        "shutdown:\n  timeout: 1s\nclusters:\n",
        "c.yaml:7: shutdown.timeout: found 1s, expected at least grace, which is 2s",
    ),
    "no time to drain before the default timeout": (
        "clusters:\n",
        "shutdown:\n  grace: 1m\nclusters:\n",
        "c.yaml:7: shutdown.grace: found 1m, expected at most timeout, 25s by default",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_a_mistake_is_one_exact_line(case: str) -> None:
    old, new, line = CHANGES[case]
    assert mistakes_of(changed(old, new)) == [line]


# Whole files instead of a change to the good one.
FILES = {
    "empty": ("", f"c.yaml:1: (top level): found nothing, expected a mapping with {CONFIG_KEYS}"),
    "only comments": ("# a\n", f"c.yaml:1: (top level): found nothing, expected a mapping with {CONFIG_KEYS}"),
    "a list": ("- a\n", f"c.yaml:1: (top level): found a list, expected a mapping with {CONFIG_KEYS}"),
    "two documents": (
        GOOD + "---\n" + GOOD,
        "c.yaml:9: (top level): found a second YAML document, expected one document in a file",
    ),
    "unclosed bracket": (
        "listeners: [\nclusters: 1\n",
        "c.yaml:2: (top level): found a YAML error (while parsing a flow sequence: did not find expected ',' or ']' "
        "(begun on line 1)), expected valid YAML",
    ),
    "tab": (
        "listeners:\n\t- name: a\n",
        "c.yaml:2: (top level): found a YAML error (while scanning for the next token: found character that cannot "
        "start any token), expected spaces, not tabs, at the start of the line",
    ),
    "IPv6 address without quotes": (
        "admin: {address: [::1]:80}\n",
        "c.yaml:1: (top level): found a YAML error (while parsing a flow node: did not find expected node content), "
        "expected quotes around an IPv6 address",
    ),
    "a star without quotes": (
        "a: *.example.com\n",
        "c.yaml:1: (top level): found a YAML error (while scanning an alias: did not find expected alphabetic or "
        "numeric character), expected quotes around a value that starts with * @ ` % & or !",
    ),
    "unknown alias": (
        "a: *b\n",
        "c.yaml:1: (top level): found the alias '*b', expected an anchor of that name that ended before it",
    ),
    "alias inside its anchor": (
        "a: &b\n  - *b\n",
        "c.yaml:2: (top level): found the alias '*b', expected an anchor of that name that ended before it",
    ),
    "tag": ("a: !!int '5'\n", "c.yaml:1: (top level): found the YAML tag 'tag:yaml.org,2002:int', "
                              "expected a value without a tag"),
    "control character": (
        "a: b\nc: \x07\n",
        "c.yaml:2: (top level): found the character '\\x07', expected printable text",
    ),
    "lone surrogate": ("a: \ud800", "c.yaml:1: (top level): found the character '\\ud800', expected printable text"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_config_is_one_exact_line(case: str) -> None:
    text, line = FILES[case]
    assert mistakes_of(text) == [line]


# Where the 52nd value inside another begins. libyaml reads ahead within a line, and stops at a depth of its own there.
TOO_DEEP = {
    "lists": ("[" * 100_000, 1),
    "lists, just too deep": ("[" * 52, 1),
    "mappings": ("{" * 100_000, 1),
    "mappings with keys": ("{a: " * 100_000, 1),
    "lists and mappings": ("[{a: " * 50_000, 1),
    "lists with anchors": ("&a [" * 100_000, 1),
    "lists that end": ("[" * 2000 + "]" * 2000, 1),
    "lists as keys": ("? [" * 100_000, 1),
    "block lists": ("- " * 100_000, 1),
    "block keys": ("? " * 100_000, 1),
    "block mappings": ("".join(f"{' ' * depth}a:\n" for depth in range(2000)), 51),
    "a list on each line": ("[\n" * 2000, 52),
    "lists in a mapping": ("a:\n  b:\n    " + "[" * 100_000, 3),
    "few on one line, many on the next": ("[" * 40 + "\n" + "[" * 2000, 2),
    "the last of what libyaml takes on the next line": ("[" * 1000 + "\n" + "[", 1),
    "lists behind text of many bytes": ("# ä€𝄞\nä€𝄞: " + "[" * 100_000, 2),
    "a YAML error behind": ("[" * 60 + "}", 1),
}


@pytest.mark.parametrize("case", TOO_DEEP)
def test_what_is_too_deep_is_named_with_the_line_of_the_first_such_value(case: str) -> None:
    text, line = TOO_DEEP[case]
    assert mistakes_of(text) == [f"c.yaml:{line}: (top level): found more than 50 levels of nesting, expected fewer"]


def test_a_limit_of_the_parser_is_ours_whatever_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    libyaml = yaml.CSafeLoader

    class Shallow:
        """A parser that stops at some depth before it has told of any of it."""

        def __init__(self, text: str) -> None:
            self._whole = len(text) > 100
            self._parser = libyaml(text)

        def get_event(self) -> object:
            if self._whole:
                raise yaml.MarkedYAMLError(problem="no more", problem_mark=yaml.Mark("", 100, 0, 100, "", 0))
            return self._parser.get_event()

    monkeypatch.setattr(yaml, "CSafeLoader", Shallow)
    assert mistakes_of("[" * 200) == ["c.yaml:1: (top level): found more than 50 levels of nesting, expected fewer"]
    assert mistakes_of("[" * 20 + "\n" * 200) == [
        "c.yaml:1: (top level): found a YAML error (no more), expected valid YAML"
    ]


@pytest.mark.parametrize(
    "text", ["[" * 40 + "}", "a: '" + "[" * 2000, "a: *b!" + "[" * 2000, "# " + "[" * 2000 + "\n%"]
)
def test_a_yaml_error_with_few_levels_before_it_is_one(text: str) -> None:
    [line] = mistakes_of(text)
    assert "found a YAML error" in line


def test_all_mistakes_at_once_in_the_order_of_the_file() -> None:
    text = """\
listeners:
  - name: inbound
    address: 127.0.0.1
    routes:
      - {cluster: ap, timeout: 5}
      - match: {prefix: /, regex: (}
        cluster: app
  - name: inbound
    address: 127.0.0.1:8000
  - nonsense
admin: {}
shutdown: {timeout: 1s}
clusters:
  - name: app
    endpoints: [127.0.0.1:0]
    balancer: round robin
"""
    assert [line.partition(" found ")[0] for line in mistakes_of(text)] == [
        "c.yaml:3: listeners[0].address:",
        "c.yaml:5: listeners[0].routes[0].timeout:",
        "c.yaml:5: listeners[0].routes[0].cluster:",
        "c.yaml:6: listeners[0].routes[1].match.regex:",
        "c.yaml:6: listeners[0].routes[1].match.regex:",
        "c.yaml:8: listeners[1].name:",
        "c.yaml:8: listeners[1].routes:",
        "c.yaml:10: listeners[2]:",
        "c.yaml:11: admin.address:",
        "c.yaml:12: shutdown.timeout:",
        "c.yaml:15: clusters[0].endpoints[0]:",
        "c.yaml:16: clusters[0].balancer:",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("    routes:", "    limit: {max_headers: 0}\n    routes:", id="inside an unknown key"),
        pytest.param("clusters:\n  - name: app", "clusters:\n  - name: 5", id="reference to a mistaken cluster"),
        pytest.param("clusters:\n  - name: app", "clusters:\n  - named: app", id="reference to a nameless cluster"),
        pytest.param("clusters:\n  - name: app\n    endpoints: [127.0.0.1:8080]\n", "clusters: []\n", id="no clusters"),
        pytest.param("    endpoints:", "    endpoint:", id="endpoints that are misspelt"),
        pytest.param("    routes:", "    rotues:", id="routes that are misspelt"),
        pytest.param("      - cluster: app\n", "      - cluster: 5\n", id="reference that is no name"),
        pytest.param("clusters:\n", "shutdown: {grace: long, timeout: 1s}\nclusters:\n", id="bound that is mistaken"),
    ],
)
def test_a_mistake_does_not_lead_to_others(old: str, new: str) -> None:
    assert len(mistakes_of(changed(old, new))) == 1


def test_every_mistake_is_one_line_whatever_the_file_is_called() -> None:
    mistake = Mistake("a\nb", 3, "x", "y", "z")
    assert str(mistake) == "'a\\nb':3: x: found y, expected z"


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("name: inbound", "name: on", "on"),
        ("name: inbound", "name: no", "no"),
        ("name: inbound", "name: 1e3", "1e3"),
        ("name: inbound", "name: 0x1F", "0x1F"),
        ("name: inbound", "name: 012", "012"),
        ("name: inbound", "name: 2024-01-01", "2024-01-01"),
        ("name: inbound", "name: '8080'", "8080"),
        ("name: inbound", "name: &anchor inbound", "inbound"),
    ],
)
def test_plain_text_is_text_unless_both_yaml_versions_say_otherwise(old: str, new: str, value: str) -> None:
    assert loads(changed(old, new), "c.yaml").listeners[0].name == value


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("127.0.0.1:8000", "'[::]:8000'"),
        ("127.0.0.1:8000", "localhost:0"),
        ("127.0.0.1:8000", "unix:/run/meshlet.sock"),
        ("[127.0.0.1:8080]", "[app_1.example.com:80, '[::1]:80', 'unix:/run/app.sock']"),
        ("clusters:\n", "admin: {address: 'localhost:15000'}\nclusters:\n"),
        ("clusters:\n", "admin: {address: '127.9.9.9:15000'}\nclusters:\n"),
        ("clusters:\n", "admin: {address: 'unix:/run/admin.sock'}\nclusters:\n"),
        ("clusters:\n", "admin:\nclusters:\n"),
        ("clusters:\n", "shutdown: {grace: 0, timeout: 0s}\nclusters:\n"),
        ("- cluster: app", "- cluster: app\n        match: {host: '*.example.com', method: M-SEARCH}"),
        ("- cluster: app", "- cluster: app\n        match: {prefix: /, path: null}"),
        ("- cluster: app", "- cluster: app\n        match: {regex: '/[a-z]+'}"),
        ("- cluster: app", "- &route {cluster: app}\n      - *route"),
        ("    routes:\n      - cluster: app\n", "    protocol: tcp\n    cluster: app\n"),
        ("    routes:\n      - cluster: app\n", "    protocol: tcp\n    routes: [{cluster: app}]\n"),
        (
            "127.0.0.1:8000\n",
            "127.0.0.1:0\n    routes: [{cluster: app}]\n  - name: other\n    address: 127.0.0.1:0\n",
        ),
    ],
)
def test_what_is_allowed(old: str, new: str) -> None:
    assert isinstance(loads(changed(old, new), "c.yaml"), Config)


def test_values_have_the_units_of_the_schema() -> None:
    text = changed("- cluster: app", "- {cluster: app, timeout: 250ms, max_body: 64KiB, match: {method: [GET, PUT]}}")
    route = loads(text, "c.yaml").listeners[0].routes[0]
    assert (route.timeout, route.max_body) == (Duration(0.25), Size(65536))
    assert route.match.method == ("GET", "PUT")


def test_aliases_cannot_multiply_without_bound() -> None:
    routes = "[&route {cluster: app}" + ", *route" * 1000 + "]"
    listener = "  - {name: l, address: 'localhost:0', routes: *routes}\n"
    text = changed("routes:\n      - cluster: app\n", f"routes: &routes {routes}\n{listener * 1000}")
    [line] = mistakes_of(text)
    assert line.endswith("(top level): found more than 250000 values, aliases followed, expected fewer")


def test_a_thousand_routes_are_not_too_many() -> None:
    routes = "".join(f"      - {{match: {{host: h{i}, prefix: /p}}, cluster: app, timeout: 5s}}\n" for i in range(1000))
    assert len(loads(changed("      - cluster: app\n", routes), "c.yaml").listeners[0].routes) == 1000


def lines_of(text: str) -> list[str]:
    try:
        loads(text, "c.yaml")
    except ConfigError as error:
        return str(error).split("\n")
    return []


@settings(deadline=None)
@given(st.text() | st.text(st.sampled_from("a1:-[]{},&*!|>'\"%@` \t\n#?")))
def test_whatever_is_no_config_has_a_mistake(text: str) -> None:
    lines = lines_of(text)
    assert lines
    assert all(line.startswith("c.yaml:") and line.isprintable() for line in lines)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_config_loads_or_has_mistakes_of_one_line_each(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(CONFIGS)).read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    new = data.draw(st.text(st.sampled_from("aA1:-[]{},&*!'\"\0 \n.~/"), max_size=6))
    lines = lines_of(text[:start] + new + text[end:])
    assert all(line.startswith("c.yaml:") and line.isprintable() for line in lines)


def error_of(path: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert error_of(path) == f"{path}: (top level): found no such file, expected a config file; check the path"


def test_a_directory(tmp_path: Path) -> None:
    assert error_of(tmp_path) == (
        f"{tmp_path}: (top level): found a directory, expected a config file; name the file inside it"
    )


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # Root, as whom the tests may run, may read everything; so the refusal is made.
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert error_of("c.yaml") == (
        "c.yaml: (top level): found a file that may not be read, "
        "expected one that this user may read; check its owner and mode"
    )


def test_a_path_that_no_file_can_have() -> None:
    error = error_of("c\0")
    assert error.startswith("'c\\x00': (top level): found an error (")
    assert "embedded null" in error  # the rest of it differs with the Python


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty", "fifo", "socket"])
def test_what_is_no_regular_file_is_not_waited_for(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        assert error_of(tmp_path / path).startswith(f"{tmp_path / path}: (top level): found ")
    if path in ("/dev/zero", "/dev/null", "fifo"):  # a socket cannot be opened, and here may be no terminal
        assert error_of(tmp_path / path).endswith(
            "found a device, a pipe or a socket, expected a config file: a regular file"
        )


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b" " * (4 * 1024 * 1024 + 1))
    assert error_of(path) == f"{path}: (top level): found more than 4 MiB, expected a config file"


def test_symlinks_to_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "c.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "c.yaml").symlink_to("..data/c.yaml")
    assert load(tmp_path / "c.yaml") == loads(GOOD, "c.yaml")


@pytest.mark.parametrize(
    ("number", "passing"),
    [
        (errno.EMFILE, True), (errno.ENFILE, True), (errno.ENOMEM, True), (errno.EIO, True), (errno.ESTALE, True),
        (errno.ENOENT, False), (errno.EACCES, False), (errno.EISDIR, False), (errno.ELOOP, False),
        (errno.ENAMETOOLONG, False),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_is_told_from_what_is_wrong_with_the_file(
    monkeypatch: pytest.MonkeyPatch, number: int, passing: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(ConfigError) as caught:
        load("c.yaml")
    assert isinstance(caught.value, Unreadable) == passing


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"a: b\nc: \xff\n")
    assert error_of(path) == f"{path}:2: (top level): found the byte 0xff, expected text in UTF-8"


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert load(path) == loads(GOOD, "c.yaml")
