"""One request and its response as a filter sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlet.filters.headers import Headers
from meshlet.http.grammar import TARGET

if TYPE_CHECKING:
    from meshlet.http.head import RequestHead, ResponseHead


class Facts(Protocol):
    """What an exchange tells about itself."""

    @property
    def head(self) -> RequestHead:
        """The request's head."""
        ...

    @property
    def remote_host(self) -> str:
        """The client's IP address, without a port."""
        ...

    @property
    def listener_name(self) -> str:
        """The listener that the request came in by."""
        ...

    @property
    def route_name(self) -> str | None:
        """The route's name, where it has one."""
        ...

    @property
    def cluster_name(self) -> str | None:
        """The cluster that the request goes to, as far as that is known yet."""
        ...

    @property
    def elapsed(self) -> float:
        """Seconds since the request's head was there."""
        ...


class Request:
    """The request's head."""

    __slots__ = ("_head", "_headers")

    def __init__(self, head: RequestHead) -> None:
        self._head = head
        self._headers: Headers | None = None

    @property
    def method(self) -> str:
        """The method, as it was sent."""
        return self._head.method.decode("latin-1")

    @property
    def target(self) -> str:
        """The path with its query; `*` and the HOST:PORT of CONNECT are possible too."""
        return self._head.target.decode("latin-1")

    @property
    def path(self) -> str:
        """The path without the query, percent-encoded as it was sent.

        Can be set to where the app is asked instead, which changes no route. Raises ValueError for what is no path.
        """
        return self._head.path.decode("latin-1")

    @path.setter
    def path(self, path: str) -> None:
        _, mark, query = self._head.target.partition(b"?")
        self._retarget(path.encode("latin-1"), mark, query)

    @property
    def query(self) -> str:
        """What follows the first `?` of the target, percent-encoded as it was sent. Can be set as `path` can."""
        return self._head.target.partition(b"?")[2].decode("latin-1")

    @query.setter
    def query(self, query: str) -> None:
        self._retarget(self._head.path, b"?" if query else b"", query.encode("latin-1"))

    def _retarget(self, path: bytes, mark: bytes, query: bytes) -> None:
        head = self._head
        if head.target[:1] != b"/":
            raise ValueError(f"the target {self.target} has no path")
        target = path + mark + query
        if path[:1] != b"/" or b"?" in path or target.translate(None, TARGET):
            raise ValueError("a path begins with / and holds no ?, #, space or control character")
        head.target = target
        # The version stays: a request without Host is passed on in HTTP/1.0.
        head.lines[0] = b"%b %b %b" % (head.method, target, head.lines[0].rpartition(b" ")[2])

    @property
    def host(self) -> str | None:
        """The host that was asked, in lower case and without a port."""
        host = self._head.host
        return None if host is None else host.decode("latin-1")

    @property
    def headers(self) -> Headers:
        """The header fields."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(self._head)
        return headers


class Response:
    """The head of the app's response."""

    __slots__ = ("_head", "_headers")

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self._headers: Headers | None = None

    @property
    def status(self) -> int:
        """The status code."""
        return self._head.status

    @property
    def headers(self) -> Headers:
        """The header fields."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(self._head)
        return headers


class Call:
    """One request on its way through the filters; all of them get the same object."""

    __slots__ = ("_facts", "_state", "request", "response")

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._state: dict[str, object] | None = None
        self.request = Request(facts.head)
        #: None until the app has answered
        self.response: Response | None = None

    @property
    def peer(self) -> str:
        """The client's IP address."""
        return self._facts.remote_host

    @property
    def request_id(self) -> str:
        """The value of x-request-id that the app and the logs get."""
        return (self._facts.head.request_id or b"").decode("latin-1")

    @property
    def listener(self) -> str:
        """The listener's name."""
        return self._facts.listener_name

    @property
    def route(self) -> str | None:
        """The route's name, where it has one."""
        return self._facts.route_name

    @property
    def cluster(self) -> str | None:
        """The cluster's name, once it is known."""
        return self._facts.cluster_name

    @property
    def elapsed(self) -> float:
        """Seconds since the request's head was there."""
        return self._facts.elapsed

    @property
    def state(self) -> dict[str, object]:
        """What the filters want to remember about this request. The key names whose it is."""
        state = self._state
        if state is None:
            state = self._state = {}
        return state
