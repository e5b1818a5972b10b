"""How a filter is tested without a proxy; the filter is the one of examples/filters."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from examples.filters.webhook_signature import WebhookSignature
from meshlet.config.schema import Filter as Written
from meshlet.filters.load import FilterLoadError, load_filter
from meshlet.filters.testing import ClientRequest, play

BODY = b'{"action": "opened"}'
SIGNATURE = "sha256=" + hmac.new(b"secret", BODY, hashlib.sha256).hexdigest()


@pytest.fixture(name="webhook")
def _webhook(monkeypatch: pytest.MonkeyPatch) -> WebhookSignature:
    monkeypatch.setenv("WEBHOOK_SECRET", "secret")
    return WebhookSignature(WebhookSignature.Config(secret_env="WEBHOOK_SECRET"))


async def test_a_request_with_the_right_signature_reaches_the_app(webhook: WebhookSignature) -> None:
    played = await play(webhook, ClientRequest("POST", "/hook", {"X-Hub-Signature-256": SIGNATURE}, BODY))
    assert played.request is not None
    assert played.request.headers.get("x-webhook-verified") == "sha256"
    assert played.request_body == BODY
    assert played.response is not None


@pytest.mark.parametrize("headers", [{}, {"x-hub-signature-256": "sha256=0"}, {"x-hub-signature-256": "\xe9"}])
async def test_a_request_without_it_does_not(webhook: WebhookSignature, headers: dict[str, str]) -> None:
    played = await play(webhook, ClientRequest("POST", "/hook", headers, [BODY[:5], BODY[5:]]))
    assert played.request is None
    assert played.reply is not None
    assert played.reply.status == 401


async def test_a_body_that_was_left_out_does_not_pass_by_the_check(webhook: WebhookSignature) -> None:
    played = await play(webhook, ClientRequest("POST", "/hook", {"x-hub-signature-256": SIGNATURE}))
    assert played.request is None


async def test_a_body_that_is_too_large(webhook: WebhookSignature) -> None:
    headers = {"x-hub-signature-256": SIGNATURE}
    played = await play(webhook, ClientRequest("POST", "/hook", headers, b"x" * (1 << 20) + b"x"))
    assert played.reply is not None
    assert played.reply.status == 413


def test_a_secret_that_is_missing_is_a_mistake_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET", raising=False)
    written = Written(
        python="examples.filters.webhook_signature:WebhookSignature", config={"secret_env": "WEBHOOK_SECRET"}
    )
    with pytest.raises(FilterLoadError, match="WEBHOOK_SECRET is not set"):
        load_filter(written)
