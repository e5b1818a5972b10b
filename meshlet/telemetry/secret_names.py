"""Says by its name whether a value is a secret: one rule for fields, parameters of URLs, cookies, forms and JSON keys.

A name is split into words, however it is written: `X-Api-Key`, `apiKey`, `api_key`, `user[api.key]`. Four lists say
what hides its value; two say what a name may hold and be no secret all the same. Whatever is in doubt is hidden: who
looks for a value in vain has lost a minute, and a password that was seen must be changed.
"""

from __future__ import annotations

import re
from functools import lru_cache

# The two long expressions are compiled when the first name is judged: no run pays for it that nobody looks at.

# Unmistakable wherever they stand in a name, between letters too and across separators: `pass_word`, `dbpassword`.
_PARTS = "|".join(
    (
        # passwords and what stands in for them
        *("passw", "passphrase", "passcode", "pswd", "pwd", "contrase[nñ]a", "kennwort", "motdepasse"),
        *("mnemonic", "seedphrase", "recoveryphrase", "securityanswer", "rememberweb", "magiclink"),
        # credentials of any kind
        *("secret", "credential", "token", "jwt", "bearer", "authori[sz]ation", "authentication", "assertion"),
        *("verifier", "signature", "signedrequest", "apikey", "accesskey", "privatekey", "authcode"),
        # sessions and cookies: who has one is taken for whom it was given to
        *("sessid", "session", "cookie", "[cx]srf", "forgery", "captcha"),
        # URLs and strings with a password in them
        *("connectionstring", "webhookurl", "dockerconfig", "kubeconfig"),
        # cards
        *("cardnumber", "ccnumber"),
        # names that only their makers take for secrets
        "aspnetcoreidentity",
        "cfclearance",
        "firebaseappcheck",
        "honeycombteam",  # its API key
        "oidcdata",  # what AWS' load balancer knows of a user, signed
        "pgtio?[du]",  # CAS: pgtId, pgtIou
        "secwebsocketprotocol",  # browsers' only place for a token (Kubernetes: base64url.bearer.authorization.…)
        "wordpress(?:loggedin|sec)",
    )
)
# Only as whole words, since they are parts of too many others: `pin` of `shipping`, `dpop` of `add_popup`.
_WORDS = frozenset(
    {
        *("authn", "authz", "code", "codes", "cred", "crumb", "csc", "cvc", "cvv", "dpop", "dsn", "hmac", "jwe", "jwk"),
        *("jws", "keytab", "mfa", "otps", "pem", "pfx", "pin", "psw", "pw", "salt", "saml", "samlart", "samlrequest"),
        *("samlresponse", "sas", "sess", "sid", "sig", "sign", "tfa", "tgt", "ticket", "wresult"),
    }
)
# At the end of a word: `userkey`, `basicauth`, `totp`, `dbpass`, `wpnonce`.
_ENDINGS = ("auth", "creds", "key", "keys", "nonce", "otp", "pass")
# Only as the whole name: Django REST framework has the first two (`access_level` and `refresh_rate` are others), Drupal
# the last, for its sessions.
_NAMES = re.compile("access|refresh|2fa|rememberme|s?sess[0-9a-f]{32,}")

# What is no secret although a word of it is in the lists. It is taken out of the name, and what is left is judged: so
# `next_page_token` is seen, and `page_token_secret` is not. An underscore stands between words, or nothing.
_HARMLESS = r"(?<![^_])(?:{})(?![^_])".format(
    "|".join(
        (
            # English words
            *("(?:by|com|encom|over|sur|tres|under)pass", "(?:don|hoc|joc|mon|tur|whis)key", "(?:ob|pos)session"),
            *("secretar(?:y|ies|iat)", "tokeni[sz](?:e[drs]?|ers?|ing|ation)", "sign_(?:in|off|on|out|up)"),
            # A list of sessions, or how many there are. What is in it is judged by its own names.
            "sessions",
            # Places in a list: they open nothing that the request did not open already, and they are what one
            # looks for when a client reads a page twice.
            "(?:(?:next|prev|previous|start|starting|first|last)_?)?"
            "(?:page|paging|pagination|continuation|continue|cursor|skip|sync|delta|resume)_?tokens?",
            "(?:next|prev|previous|starting)_?token",
            # Counts of what language models read and write.
            "(?:(?:accepted|audio|cache|cached|completion|creation|input|max|min|new|num|output|prediction|prompt"
            "|read|reasoning|rejected|text|thinking|total)_?){1,5}tokens",
            # Keys of data: of a row, an object, a cache, a request that may come twice. Those who know them know
            # a name.
            "(?:cache|composite|foreign|hot|idempotenc[ey]|label|object|ordering|partition|primary|public|publishable|routing|row"
            "|shard|sort|surrogate|topology|unique)_?keys?",
            "(?<!access)(?<!access_)(?<!private)(?<!private_)key_?id",
            # It shows that a server has read the request, nothing else (RFC 6455 section 1.3).
            "sec_?web_?socket_?key",
            # Numbers of outcomes, countries, currencies and the like.
            "(?:area|city|color|colour|country|currency|err|error|exit|geo|http|iata|icao|iso|lang|language|locale"
            "|post|postal|reason|region|response|result|return|source|state|status|zip)_?codes?",
            # The answer to a preflight: it says true, or is not there.
            "access_control_allow_credentials",
            # Where tokens are made, in client files of OAuth 2.
            *("(?:auth|token)_?uri", "token_?type"),
        )
    )
)
# Last words of names that tell something about a secret and do not hold it: `token_expires_in`, `secret_name`.
# Neither `hint` (OpenID's `id_token_hint` is a token), `id` (of a session) nor `url` (of a password's reset).
_ABOUT = frozenset(
    {
        *("affinity", "age", "alg", "algorithm", "arn", "at", "bits", "count", "date", "disabled", "duration"),
        *("enabled", "endpoint", "expiration", "expired", "expires", "expiry", "format", "in", "issuer", "length"),
        *("lifetime", "limit", "method", "methods", "mode", "name", "names", "namespace", "policy", "provider"),
        *("realm", "ref", "refs", "required", "scope", "scopes", "size", "status", "supported", "time", "timeout"),
        *("timestamp", "ttl", "type", "types", "usage", "verified", "version"),
    }
)
# `APIKeys` and `apiKeys`, and `JWTs`. Digits are no part of a word: `oauth2`, `password1`.
_WORD = re.compile(r"[A-Z]+s?(?![a-z])|[A-Z]?[^\W\d_A-Z]+")
_SEPARATORS = re.compile(r"[\W_]+")
_LONGEST_KEPT = 64  # characters


def is_secret(name: str) -> bool:
    """Say whether what has this name must not be shown."""
    # Whoever sends a name may choose it, so a long one is not kept.
    return _kept(name) if len(name) <= _LONGEST_KEPT else _judge(name)


def bare(name: str) -> str:
    """Return a name as it is in all its spellings: in lower case and without separators."""
    return _SEPARATORS.sub("", name.lower())


def _judge(name: str) -> bool:
    if _NAMES.fullmatch(bare(name)):
        return True
    words = [word for chunk in _SEPARATORS.split(name) for word in _words(chunk)]
    if not _has_secret(words) or (len(words) > 1 and words[-1] in _ABOUT):
        return False
    return _has_secret(re.sub(_HARMLESS, "", "_".join(words)).split("_"))


def _words(chunk: str) -> list[str]:
    lower = chunk.lower()
    return [lower] if lower in _WORDS else [word.lower() for word in _WORD.findall(chunk)]


def _has_secret(words: list[str]) -> bool:
    if re.search(_PARTS, "".join(words)) or not _WORDS.isdisjoint(words):
        return True
    return any(word.endswith(_ENDINGS) for word in words)


_kept = lru_cache(1024)(_judge)
