"""Where a redirect sends the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.http.head import field_value
from meshlet.routing.paths import compile_new_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlet.config.schema import Match, Redirect
    from meshlet.http.head import RequestHead

_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


def compile_redirect(redirect: Redirect, match: Match) -> Callable[[RequestHead, bytes], bytes]:
    """Make the function from a request, and the scheme it came by, to the value of `Location`.

    What the redirect does not give stays as it was asked for, as in Envoy: with a new host the port goes, and a
    port that the old scheme or the new one implies is left out.
    """
    new_path = compile_new_path(redirect.path, redirect.prefix, match)
    new_scheme = redirect.scheme.encode() if redirect.scheme is not None else None
    new_host = _bracketed(redirect.host).encode() if redirect.host is not None else None
    new_port = b"%d" % redirect.port if redirect.port is not None else None

    def location(head: RequestHead, scheme: bytes) -> bytes:
        path, mark, query = head.target.partition(b"?")
        if not path.startswith(b"/"):  # the asterisk of OPTIONS, the authority of CONNECT
            path = b"/"
        if new_path is not None:
            path = new_path(path)
        if not redirect.strip_query:
            path += mark + query
        host, port = _authority(head)
        if new_host is not None:
            host, port = new_host, b""
        if not host:
            # HTTP/1.0 without a Host: a reference, which must not begin with the `//` of a host's name.
            # Browsers read a backslash as a slash.
            return b"/" + path.lstrip(b"/\\")
        to = new_scheme or scheme
        if new_port is not None:
            port = new_port
        elif port == _DEFAULT_PORTS[scheme]:
            port = b""
        if port and port != _DEFAULT_PORTS[to]:
            host = b"%b:%b" % (host, port)
        return b"%b://%b%b" % (to, host, path)

    return location


def _authority(head: RequestHead) -> tuple[bytes, bytes]:
    """Return host and port of the Host field; the port is empty where it has none."""
    host = head.host or b""
    return host, (field_value(head.lines, b"host") or b"")[len(host) :].removeprefix(b":")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
