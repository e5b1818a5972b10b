"""Names of public APIs, as their documentation writes them: what hides a value, and what must not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlet.telemetry.secret_names import bare, is_secret

SECRETS = {
    "HTTP": (
        "Authorization Proxy-Authorization Authentication Authentication-Info Proxy-Authentication-Info Cookie "
        "Cookie2 Set-Cookie Set-Cookie2 DPoP DPoP-Nonce Sec-WebSocket-Protocol Signature X-Auth X-Auth-Token "
        "X-Auth-Key X-Bearer X-Bearer-Token X-Access-Token X-API-Key api-key apikey X-JWT X-User-Jwt X-Otp X-TOTP "
        "X-MFA X-Session X-Session-Id X-Session-Token X-Secret X-Password X-Credentials X-HMAC X-Signature "
        "X-CSRF-Token X-CSRFToken X-XSRF-TOKEN X-Forwarded-Access-Token"
    ),
    "AWS": (
        "X-Amz-Security-Token X-Amz-Signature X-Amz-Credential AWSAccessKeyId AccessKeyId SecretAccessKey "
        "SessionToken aws_access_key_id aws_secret_access_key aws_session_token X-Amzn-Oidc-Data "
        "X-Amzn-Oidc-Accesstoken ClientToken SecretString SecretBinary MasterUserPassword TemporaryPassword "
        "ConfirmationCode SECRET_HASH"
    ),
    "Google": (
        "X-Goog-Signature X-Goog-Credential X-Goog-Iap-Jwt-Assertion X-Goog-Api-Key X-Goog-Channel-Token private_key "
        "private_key_id client_secret idToken refreshToken oobCode key id_token X-Serverless-Authorization "
        "X-Firebase-AppCheck"
    ),
    "Azure": (
        "Ocp-Apim-Subscription-Key X-Functions-Key x-ms-token-aad-access-token x-ms-token-aad-id-token X-ZUMO-AUTH "
        "sig sharedAccessKey SharedAccessSignature connectionString AccountKey subscription-key "
        "X-Ms-Authorization-Auxiliary x-ms-copy-source-authorization secretText adminPassword code"
    ),
    "GitHub, GitLab, Bitbucket": (
        "X-GitHub-OTP X-Hub-Signature X-Hub-Signature-256 Private-Token Job-Token Deploy-Token X-Gitlab-Token "
        "private_token job_token access_token webhook_secret pem _gh_sess user_session __Host-user_session_same_site "
        "_gitlab_session app_password"
    ),
    "OAuth 2 and OpenID Connect": (
        "client_assertion code_verifier refresh_token device_code user_code id_token_hint authorization_code "
        "auth_code authcode assertion subject_token actor_token logout_token registration_access_token "
        "initial_access_token request_token oauth_token oauth_token_secret oauth_verifier oauth_signature "
        "oauth_consumer_key oauth_nonce access refresh"
    ),
    "SAML, CAS, WS-Federation": (
        "SAMLRequest SAMLResponse SAMLart samlart Assertion wresult ticket pgtId pgtIou proxyGrantingTicket"
    ),
    "Okta, Auth0, Keycloak, Duo": (
        "sessionToken stateToken factorToken recoveryToken passCode activationToken mfa_token oob_code recovery_code "
        "binding_code cross_origin_auth sig_response sig_request AUTH_SESSION_ID KEYCLOAK_SESSION session_state "
        "appSession"
    ),
    "Kubernetes, HashiCorp": (
        "token client-key-data tls.key bootstrap-token service-account-token .dockerconfigjson kubeconfig "
        "X-Vault-Token X-Vault-Wrap-Token X-Consul-Token X-Nomad-Token secret_id unseal_keys_b64 root_token "
        "client_token secret-key"
    ),
    "Stripe, PayPal, payments": (
        "Stripe-Signature payment_intent_client_secret card[cvc] card[number] cardNumber cvv PayPal-Transmission-Sig "
        "PayPal-Auth-Assertion X-Square-Hmacsha256-Signature CB-ACCESS-KEY CB-ACCESS-SIGN CB-ACCESS-PASSPHRASE "
        "X-MBX-APIKEY API-Sign key_secret SECURETOKEN"
    ),
    "Twilio, Slack, Discord, chat": (
        "X-Twilio-Signature AuthToken X-Slack-Signature signing_secret bot_token X-Signature-Ed25519 "
        "X-Telegram-Bot-Api-Secret-Token X-Line-Signature channel_access_token verification_token hub.verify_token "
        "signed_request appsecret_proof SLACK_WEBHOOK_URL"
    ),
    "Cloudflare, Shopify, DigitalOcean": (
        "X-Auth-User-Service-Key CF-Access-Client-Secret Cf-Access-Jwt-Assertion Cf-Access-Token CF_Authorization "
        "cf_clearance X-Shopify-Access-Token X-Shopify-Storefront-Access-Token X-Shopify-Hmac-Sha256 hmac "
        "api_secret_key storefront_access_token"
    ),
    "others": (
        "DD-API-KEY DD-APPLICATION-KEY X-Honeycomb-Team X-Sentry-Auth sentry_key dsn X-Rollbar-Access-Token "
        "X-Insert-Key X-License-Key X-RapidAPI-Key X-Algolia-API-Key X-Parse-REST-API-Key X-Parse-Session-Token "
        "X-Plex-Token X-Emby-Authorization X-Figma-Token X-Riot-Token X-Postmark-Server-Token X-Mashape-Key "
        "X-ClickHouse-Key X-Elastic-App-Auth X-Storage-Token X-Subject-Token X-Transmission-Session-Id X-WP-Nonce "
        "X-Redmine-API-Key userkey auth_key license_key encryption_key g-recaptcha-response LtpaToken2 SMSESSION "
        "Jenkins-Crumb crumb"
    ),
    "frameworks' cookies and fields": (
        "sessionid csrftoken csrfmiddlewaretoken _session_id authenticity_token _csrf _token laravel_session "
        "remember_web_59ba36addc2b2f9401580f014c7f58ea4e30989d JSESSIONID SESSION remember-me PHPSESSID "
        "ASP.NET_SessionId .AspNetCore.Session .AspNetCore.Cookies .AspNetCore.Antiforgery.mEZFPqlrlZ8 .ASPXAUTH "
        ".AspNetCore.Identity.Application .AspNet.ApplicationCookie __RequestVerificationToken connect.sid "
        "koa.sess.sig express:sess rack.session ci_session wordpress_logged_in_37d007a56d816107ce5b52c10342db37 "
        "XSRF-TOKEN next-auth.session-token __Secure-authjs.session-token sb-access-token supabase-auth-token CFTOKEN "
        "remember_token ASPSESSIONIDQQ SSESSd41d8cd98f00b204e9800998ecf8427e SESS0cc175b9c0f1b6a831c399e269772661"
    ),
    "forms and databases": (
        "password passwd pwd pass passcode passphrase new_password confirmPassword password1 pswd user[password] "
        "session sess cred creds credentials credential pin otp 2fa 2fa_code totp_code security_code backup_codes "
        "securityAnswer DB_PASSWORD dbpass REDIS_PASSWORD smtp_pass MYSQL_PWD ssh_private_key privateKey apiSecret "
        "APIKey apiKeys JWTs userToken user.token salt password_hash mnemonic contraseña mot_de_passe"
    ),
}
PUBLIC = {
    "HTTP": (
        "Host Accept Accept-Encoding Accept-Language Accept-Patch Allow Age Cache-Control Cache-Key Connection "
        "Content-Type Content-Length Content-Encoding Content-Security-Policy Content-Digest Date ETag Expires "
        "Forwarded If-None-Match Last-Modified Link Origin Permissions-Policy Proxy-Authenticate Public-Key-Pins "
        "RateLimit Retry-After Sec-WebSocket-Key Sec-WebSocket-Accept Sec-WebSocket-Version Sec-WebSocket-Extensions "
        "Sec-Fetch-Site Server Strict-Transport-Security Surrogate-Key Surrogate-Control User-Agent Vary Via "
        "WWW-Authenticate X-Forwarded-For x-request-id traceparent x-b3-traceid grpc-status Idempotency-Key X-Key-Id "
        "X-Frame-Options Access-Control-Allow-Origin Access-Control-Allow-Headers Access-Control-Allow-Methods "
        "Access-Control-Allow-Credentials Access-Control-Expose-Headers Access-Control-Request-Method "
        "Access-Control-Max-Age"
    ),
    "clouds": (
        "X-Amz-Algorithm X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders x-amz-content-sha256 x-amz-request-id "
        "X-Amzn-Trace-Id X-Goog-Algorithm x-goog-generation x-ms-version x-ms-client-request-id NextToken "
        "NextContinuationToken continuation-token nextPageToken page_token pageToken sync_token X-GitHub-Event "
        "X-OAuth-Scopes X-Accepted-OAuth-Scopes X-Shopify-Topic Stripe-Version KeyName KeyId key_id kmsKeyId"
    ),
    "OAuth 2": (
        "grant_type response_type redirect_uri client_id scope state expires_in token_type code_challenge_method "
        "token_endpoint authorization_endpoint token_endpoint_auth_methods_supported jwks_uri oauth_signature_method "
        "oauth_timestamp auth_time session_duration id_token_signing_alg_values_supported"
    ),
    "data": (
        "id name email author authors authority keyword keywords keyboard monkey turkey sessions active_sessions "
        "primaryKey primary_key foreignKey partition_key sortKey public_key publishable_key cacheKey objectKey "
        "max_tokens total_tokens prompt_tokens completion_tokens completion_tokens_details tokenize tokenizer "
        "statusCode status_code error_code countryCode currency_code zip_code postalCode postcode barcode "
        "language_code encoding description design signal signup_date sign_in_count shipping spinner opinion pinned "
        "passenger passport compass bypass classId inside access_level accessibility accessed_at last_refresh "
        "refresh_rate secretary profession possession password_policy password_changed_at secretName cookie_name "
        "sessionAffinity private hash digest latitude option position"
    ),
}


def named(groups: dict[str, str]) -> list[str]:
    return [name for names in groups.values() for name in names.split()]


def test_there_are_enough_of_them() -> None:
    assert len(set(named(SECRETS))) >= 200
    assert len(set(named(PUBLIC))) >= 80


@pytest.mark.parametrize("group", SECRETS)
def test_names_that_hide_a_value(group: str) -> None:
    assert [name for name in SECRETS[group].split() if not is_secret(name)] == []


@pytest.mark.parametrize("group", PUBLIC)
def test_names_that_do_not(group: str) -> None:
    assert [name for name in PUBLIC[group].split() if is_secret(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        *("page_token_secret", "publicKeyPassword", "access_control_token", "cache_key_token", "token_type_secret"),
        *("session_id", "sessionsToken", "private_key_id", "awsaccesskeyid", "secret_url", "id_token_hint"),
    ],
)
def test_a_harmless_word_hides_nothing_else_of_a_name(name: str) -> None:
    assert is_secret(name)


@given(st.sampled_from(named(SECRETS)), st.sampled_from([str.lower, str.upper, str.title]))
def test_letters_may_be_large_or_small(name: str, change: object) -> None:
    separated = re.sub(
        r"(?<=[a-z])(?=[A-Z][a-z])", "_", name
    )  # what tells words apart must not be in the letters alone
    assert is_secret(change(separated))  # type: ignore[operator]


@given(st.sampled_from(named(SECRETS)), st.sampled_from("-_.: /"))
def test_whatever_separates_the_words(name: str, separator: str) -> None:
    assert is_secret(re.sub(r"[-_.]", separator, name))


@given(st.text())
def test_any_text_is_a_name(name: str) -> None:
    assert is_secret(name) in {True, False}
    assert is_secret(f"{name} password")
    assert bare(bare(name)) == bare(name)


def test_long_names_take_no_memory() -> None:
    from meshlet.telemetry import secret_names

    before = secret_names._kept.cache_info().currsize
    assert is_secret("a" * 65536 + "_password")
    assert secret_names._kept.cache_info().currsize == before
