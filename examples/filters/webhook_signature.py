"""A filter that lets a webhook through only with the right signature over all of its body.

GitHub and others sign what they send with a secret that both sides know: the header holds `sha256=` and the
HMAC-SHA256 of the body in hex.

    filters:
      - python: webhook_signature:WebhookSignature
        config:
          header: x-hub-signature-256
          secret_env: WEBHOOK_SECRET
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING

import msgspec

from meshlet.filters import Call, Filter, Hold, Reply

if TYPE_CHECKING:
    from meshlet.filters import HeadResult


class WebhookSignature(Filter):
    """The app sees a request only after its signature was checked, and with a header that says so."""

    class Config(msgspec.Struct):
        """The value of `config:`."""

        secret_env: str  # the name of the variable: a config is shown by the admin port, a secret must not be
        header: str = "x-hub-signature-256"
        max_bytes: int = 1 << 20

    def __init__(self, config: Config) -> None:
        secret = os.environ.get(config.secret_env)
        if not secret:
            raise ValueError(f"the environment variable {config.secret_env} is not set")
        self._secret = secret.encode()
        self._header = config.header
        self._hold = Hold(config.max_bytes)

    def on_request_head(self, call: Call) -> HeadResult:
        if self._header not in call.request.headers:
            return Reply(401, f"the header {self._header} is missing\n")
        return self._hold  # the app is asked only once the whole body is here

    def on_request_data(self, call: Call, data: bytes, end: bool) -> bytes | Reply:
        given = call.request.headers.get(self._header, "")
        expected = "sha256=" + hmac.new(self._secret, data, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(given.encode(), expected.encode()):
            return Reply(401, "the signature does not fit the body\n")
        call.request.headers.set("x-webhook-verified", "sha256")
        return data
