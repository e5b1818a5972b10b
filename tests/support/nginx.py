"""nginx as the app: files to get, a folder to put into, on TCP, IPv6 and a Unix socket."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.processes import free_port
from benchmarks.proxies import nginx_command
from tests.support.http1 import Client
from tests.support.processes import Process, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path temp;
  proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{port};
    listen [::1]:{port};
    listen unix:{folder}/nginx.sock;
    root files;
    location /put/ {{ dav_methods PUT; }}
    location = /reflect {{ add_header x-body $request_body; proxy_pass http://unix:{folder}/nginx.sock:/taken; }}
    location = /taken {{ return 200 "taken\\n"; }}
    location = /nothing {{ return 204; }}
    location = /moved {{ return 302 /file; }}
  }}
}}
"""


class Nginx(NamedTuple):
    """Its addresses, as meshlet's config writes them."""

    folder: Path
    port: int

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def tcp(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ipv6(self) -> str:
        return f"[::1]:{self.port}"

    @property
    def unix(self) -> str:
        return f"unix:{self.folder}/nginx.sock"


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """nginx, answering, for as long as the block lasts."""
    server = Nginx(folder, free_port())
    (server.files / "put").mkdir(parents=True)
    (server.files / "file").write_text("a file of nginx\n")
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(port=server.port, folder=folder))
    process = Process(nginx_command(config), folder / "log")
    with running(process):
        until(lambda: _answers(server) or not process.running)
        assert process.running, process.stderr
        yield server


def _answers(server: Nginx) -> bool:
    try:
        with Client(server.tcp) as client:
            return client.get("/file").status == 200
    except ConnectionRefusedError:
        return False
