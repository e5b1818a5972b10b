"""What Envoy and Istio call things that have another name here, for whoever comes from there."""

from __future__ import annotations

# By their name in lower case without separators, as Envoy writes snake_case and Istio camelCase. A dot leads into the
# struct beside: a name is of use only where its first part is a key.
_OURS = {
    "alloworigin": "allow_origins",
    "allowedorigins": "allow_origins",
    "allowheaders": "allow_headers",
    "alloworiginstringmatch": "allow_origins",
    "basedelay": "base",
    "baseinterval": "base",
    "corspolicy": "cors",
    "destination": "cluster",
    "domains": "match.host",
    "faultinjection": "fault",
    "fixeddelay": "duration",
    "gzip": "compression",
    "hashpolicy": "hash_on",
    "hedgepolicy": "hedge",
    "host": "address",
    "hostredirect": "redirect.host",
    "hostrewrite": "rewrite.host",
    "hostrewriteliteral": "rewrite.host",
    "httpfilters": "filters",
    "httpheadername": "header",
    "httpsredirect": "scheme",
    "httpstatus": "status",
    "lbpolicy": "balancer",
    "loadassignment": "endpoints",
    "loadbalancer": "balancer",
    "localratelimit": "rate_limit",
    "maxinterval": "max",
    "maxpendingrequests": "max_pending",
    "numretries": "attempts",
    "pathredirect": "redirect.path",
    "percentage": "percent",
    "port": "address",
    "prefixrewrite": "rewrite.prefix",
    "queryparameters": "query",
    "queryparams": "query",
    "regexrewrite": "rewrite.regex",
    "requestheaderstoadd": "request_headers.add",
    "requestheaderstoremove": "request_headers.remove",
    "requestmirrorpolicies": "mirror",
    "requestspersecond": "requests",
    "responsecode": "status",
    "responseheaderstoadd": "response_headers.add",
    "responseheaderstoremove": "response_headers.remove",
    "retries": "retry",
    "retryon": "on",
    "retrypolicy": "retry",
    "route": "cluster",
    "saferegex": "regex",
    # `on` as YAML 1.1 has it, and whatever has read and written the file by that
    "true": "on",
    "uri": "path",
    "weightedclusters": "split",
}


def ours(name: str) -> str:
    """The key that stands for `name` here, with the struct that it is in; or an empty string."""
    return _OURS.get(name.lower().replace("_", "").replace("-", ""), "")
