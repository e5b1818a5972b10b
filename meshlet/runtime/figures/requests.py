"""What happened to requests and TCP connections, by listener, route and cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlet.telemetry.metrics import Family, HistogramData, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshlet.proxy.settings import ListenerStats
    from meshlet.telemetry.metrics import Labels
    from meshlet.telemetry.requests import Buckets, RequestStats, Series

#: by the attribute of RequestStats
_COUNTED = {
    "retries": ("retries", "Requests sent again."),
    "retries_successful": ("retries_successful", "Requests answered well after a retry."),
    "retries_exhausted": ("retries_exhausted", "Requests that failed after all tries of their route."),
    "retries_over_budget": ("retries_over_budget", "Requests not sent again: the retry budget was spent."),
    "try_timeouts": ("try_timeouts", "Tries without a response within their own timeout."),
    "hedges": ("hedges", "Second tries beside a first one."),
    "hedges_won": ("hedges_won", "Second tries that were answered first."),
    "mirrors": ("mirrored_requests", "Copies begun for another cluster."),
    "mirrors_dropped": ("mirrored_requests_dropped", "Copies given up."),
}

#: Istio's name of who reports, by the listener's direction
_REPORTERS = {"inbound": "destination", "outbound": "source"}


def request_families(stats: Mapping[str, ListenerStats], buckets: Buckets) -> list[Family]:
    """Return all of them; `buckets` are what the stats were made with.

    Istio's standard metrics have the labels here that tell their series apart; `telemetry.istio` adds the others.
    What nothing has happened to has no samples.
    """
    http, tcp = _Http(buckets), _Tcp()
    for name, listener in stats.items():
        reporter = _REPORTERS[listener.direction]
        for (route, cluster), counts in listener.requests.items():
            http.add((("listener", name), ("route", route), ("cluster", cluster)), reporter, counts)
        for cluster, counts in listener.tcp.items():
            tcp.add((("listener", name), ("route", ""), ("cluster", cluster)), reporter, counts)
    return [*http.families(), *tcp.families()]


class _Http:
    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._requests = Family("meshlet_requests_total", "counter", "Requests that have ended.")
        self._duration = Family(
            "meshlet_request_duration_seconds", "histogram", "From the request head to the last byte."
        )
        self._received = Family("meshlet_request_bytes", "histogram", "Sizes of request bodies.")
        self._sent = Family("meshlet_response_bytes", "histogram", "Sizes of response bodies.")
        self._active = Family("meshlet_requests_active", "gauge", "Requests in flight.")
        self._counted = {
            field: Family(f"meshlet_{name}_total", "counter", text) for field, (name, text) in _COUNTED.items()
        }

    def add(self, labels: Labels, reporter: str, counts: RequestStats) -> None:
        if counts.series:
            first = (("reporter", reporter), *labels, ("request_protocol", "http"))
            for (status, flag), series in counts.series.items():
                self._add_series((*first, ("response_code", str(status)), ("response_flags", flag or "-")), series)
        elif not any(getattr(counts, field) for field in ("active", *_COUNTED)):
            return  # a reload makes counters for all routes: those without traffic cost nothing
        self._active.samples.append(Sample(labels, counts.active))
        for field, family in self._counted.items():
            family.samples.append(Sample(labels, getattr(counts, field)))

    def _add_series(self, labels: Labels, series: Series) -> None:
        durations, sizes = self._buckets
        exemplars = tuple(series.exemplars.values())
        duration = HistogramData(durations, tuple(series.durations), series.seconds, exemplars)
        received = HistogramData(sizes, tuple(series.received_sizes), series.received)
        sent = HistogramData(sizes, tuple(series.sent_sizes), series.sent)
        self._requests.samples.append(Sample(labels, series.count))
        self._duration.samples.append(Sample(labels, duration))
        self._received.samples.append(Sample(labels, received))
        self._sent.samples.append(Sample(labels, sent))

    def families(self) -> list[Family]:
        return [self._requests, self._duration, self._received, self._sent, self._active, *self._counted.values()]


class _Tcp:
    def __init__(self) -> None:
        self._opened = Family("meshlet_tcp_connections_opened_total", "counter", "TCP connections that have begun.")
        self._closed = Family("meshlet_tcp_connections_closed_total", "counter", "TCP connections that have ended.")
        self._received = Family("meshlet_tcp_received_bytes_total", "counter", "Bytes from TCP clients.")
        self._sent = Family("meshlet_tcp_sent_bytes_total", "counter", "Bytes to TCP clients.")

    def add(self, labels: Labels, reporter: str, counts: RequestStats) -> None:
        first = (("reporter", reporter), *labels, ("request_protocol", "tcp"))
        if counts.opened:
            # Nobody knows yet how they will end.
            self._opened.samples.append(Sample((*first, ("response_flags", "-")), counts.opened))
        for (_, flag), series in counts.series.items():
            ended = (*first, ("response_flags", flag or "-"))
            self._closed.samples.append(Sample(ended, series.count))
            self._received.samples.append(Sample(ended, series.received))
            self._sent.samples.append(Sample(ended, series.sent))

    def families(self) -> list[Family]:
        return [self._opened, self._closed, self._received, self._sent]
