"""A small client of the admin port, for the commands that ask a running meshlet."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from meshlet.config.units import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from http.client import HTTPConnection, HTTPResponse
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

#: where the admin port is unless the config says otherwise; Envoy's in Istio
DEFAULT = Address("127.0.0.1", 15000)

_TIMEOUT = 10.0  # seconds, to connect and for each answer

_IS_IT_THERE = "is it running, with admin.address in its config (or --admin), and is --admin here the same?"
_NOT_OURS = "is this the admin port of a meshlet?"


class AdminError(click.ClickException):
    """What went wrong, in words that say what to do. A command that lets it pass ends with status 1."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status  # of the answer; 0 where there was none


class AdminAddress(click.ParamType[Address]):
    """HOST:PORT, [IPV6]:PORT or unix:/PATH."""

    name = "HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Parse it, or say what was expected."""
        try:
            address = value if isinstance(value, Address) else Address.parse(value)
        except ValueError as error:
            self.fail(f"found {value!r}, expected {error}", param, ctx)
        if not address.path and not address.port:
            self.fail(f"found {value!r}, expected a port between 1 and 65535", param, ctx)
        return address


def admin_option(function: F) -> F:
    """Give a command the option `--admin`: its argument `admin` is the Address."""
    option: Callable[[F], F] = click.option(
        "--admin",
        type=AdminAddress(),
        default=str(DEFAULT),
        show_default=True,
        help="The admin port of the running meshlet: HOST:PORT or unix:/PATH.",
    )
    return option(function)


class AdminClient:
    """Asks the admin port at `address`; each call has a connection of its own. All methods raise AdminError."""

    def __init__(self, address: Address, timeout: float = _TIMEOUT) -> None:
        self.address = address
        self._timeout = timeout

    def get_text(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """Return the answer to a GET."""
        with self._get(path, query) as (_, response), self._explained():
            return response.read().decode("utf-8", "replace")

    def get_json(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Return what the JSON document of the answer says."""
        return self.from_json(path, self.get_text(path, query))

    def from_json(self, path: str, text: str | bytes) -> Any:
        """Return what a JSON document of the answer to `path` says."""
        import json

        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise AdminError(f"{self.address} answered {path} with something else than JSON: {_NOT_OURS}") from error

    def stream_lines(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[bytes]:
        """Yield the lines of the answer as they come, without their line feeds, for as long as it goes on.

        However long the server is silent: to be stopped, close the iterator or interrupt it.
        """
        with self._get(path, query) as (sock, response), self._explained():
            sock.settimeout(None)
            for line in response:
                yield line.rstrip(b"\r\n")

    @contextmanager
    def _get(self, path: str, query: Mapping[str, object] | None) -> Iterator[tuple[Any, HTTPResponse]]:
        from urllib.parse import urlencode

        # Values that are None stand for options that were not given.
        given = {name: value for name, value in (query or {}).items() if value is not None}
        connection = self._connection()
        try:
            with self._explained():
                # The admin port takes only names of this machine, and the way here may lead through a tunnel.
                connection.request(
                    "GET", f"{path}?{urlencode(given)}" if given else path, headers={"Host": "localhost"}
                )
                sock = connection.sock  # which the connection forgets once the answer says that it is the last one
                response = connection.getresponse()
            if response.status != 200:
                self._refused(path, response)
            yield sock, response
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        import socket
        from http.client import HTTPConnection

        address = self.address
        if not address.path:
            return HTTPConnection(address.host, address.port, timeout=self._timeout)
        connection = HTTPConnection("localhost", timeout=self._timeout)
        connection.sock = sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(self._timeout)
        try:
            with self._explained():
                sock.connect(address.path)
        except AdminError:
            sock.close()
            raise
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of a connection into AdminError."""
        from http.client import HTTPException, IncompleteRead, RemoteDisconnected
        from socket import gaierror

        try:
            yield
        except (ConnectionRefusedError, FileNotFoundError, gaierror) as error:
            raise AdminError(f"no meshlet answers on {self.address}: {_IS_IT_THERE}") from error
        except TimeoutError as error:
            raise AdminError(f"{self.address} did not answer within {self._timeout:g} s: {_IS_IT_THERE}") from error
        except (IncompleteRead, RemoteDisconnected) as error:
            raise AdminError(f"{self.address} closed the connection before its answer was complete") from error
        except HTTPException as error:
            raise AdminError(f"{self.address} does not speak HTTP: {_NOT_OURS}") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise AdminError(f"the connection to {self.address} failed: {reason}") from error

    def _refused(self, path: str, response: HTTPResponse) -> NoReturn:
        with self._explained():
            text = response.read(4096).decode("utf-8", "replace").strip()
        if response.status == 500:
            text = f"{self.address} could not answer {path}: meshlet's own log says why"
        elif response.headers.get("Server") != "meshlet":
            text = f"{self.address} answered {path} with {response.status}: {_NOT_OURS}"
        raise AdminError(text or f"{self.address} answered {path} with {response.status}", response.status)
