"""The response flags: why an exchange went wrong, in a few letters. docs/flags.md explains each of them."""

from __future__ import annotations

#: by flag, what Envoy calls it where it writes it out ("Access log, command operators, %RESPONSE_FLAGS_LONG%").
#: Only `FE`, which comes with the class of the filter that raised as `FE:Class`, is meshlet's own.
LONG_NAMES = {
    "DC": "DownstreamConnectionTermination",
    "DI": "DelayInjected",
    "DPE": "DownstreamProtocolError",
    "DT": "DurationTimeout",
    "FE": "FilterError",
    "FI": "FaultInjected",
    "LR": "LocalReset",
    "NR": "NoRouteFound",
    "OM": "OverloadManagerTerminated",
    "RL": "RateLimited",
    "SI": "StreamIdleTimeout",
    "UAEX": "UnauthorizedExternalService",
    "UC": "UpstreamConnectionTermination",
    "UF": "UpstreamConnectionFailure",
    "UH": "NoHealthyUpstream",
    "UO": "UpstreamOverflow",
    "UPE": "UpstreamProtocolError",
    "URX": "UpstreamRetryLimitExceeded",
    "UT": "UpstreamRequestTimeout",
}
