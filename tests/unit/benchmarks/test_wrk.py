from __future__ import annotations

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.wrk import HEADERS, parse

OUTPUT = """Running 2s test @ http://127.0.0.1:18080/
  1 threads and 32 connections
  1000 requests in 2.00s, 0.40MB read
RESULT {{"requests":{requests},"duration_us":2000000,"bytes":4,"p50_us":1500,"p99_us":2750,"socket_errors":{socket},\
"status_errors":{status}}}
"""


def output(requests: int = 1000, socket: int = 0, status: int = 0) -> str:
    return OUTPUT.format(requests=requests, socket=socket, status=status)


def test_figures_of_a_slice() -> None:
    result = parse(output())
    assert result == (1000, 500.0, 1.5, 2.75)


def test_one_failed_request_in_a_thousand_is_tolerated() -> None:
    assert parse(output(socket=1)).requests == 1000


@pytest.mark.parametrize("broken", [output(requests=0), output(status=2), output(socket=1, status=1)])
def test_a_slice_of_failed_requests_is_no_figure(broken: str) -> None:
    with pytest.raises(BenchmarkError, match="error statuses"):
        parse(broken)


def test_no_result_line() -> None:
    with pytest.raises(BenchmarkError, match="no result"):
        parse("unable to connect to 127.0.0.1:18080 Connection refused\n")


def test_a_request_has_twelve_headers_with_host() -> None:
    assert len(HEADERS) + 1 == 12
