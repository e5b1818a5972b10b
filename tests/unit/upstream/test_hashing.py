"""Ring hash and Maglev: who owns a key, and how little changes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from meshlet.config.schema import HashOn
from meshlet.http.head import RequestHead
from meshlet.upstream.balancers.hashing import HashBalancer, Maglev, Ring
from meshlet.upstream.balancers.keys import hash_key, key_function
from tests.unit.upstream.support import arranged, chance, endpoint, endpoints

if TYPE_CHECKING:
    from meshlet.upstream.endpoint import Endpoint

KINDS = pytest.mark.parametrize("kind", [Ring, Maglev])
KEYS = [hash_key(b"user-%d" % number) for number in range(20000)]


def balancer(kind: type[Ring | Maglev], in_flight: int = 0) -> HashBalancer:
    return HashBalancer(kind, chance(), lambda: in_flight)


def owners(kind: type[Ring | Maglev], members: list[Endpoint], usable: list[Endpoint] | None = None) -> list[str]:
    chosen = arranged(balancer(kind), members, usable)
    return [chosen.pick(key).name for key in KEYS]


@KINDS
@pytest.mark.parametrize("count", [3, 5, 10, 50])
@pytest.mark.parametrize("how", ["leaves", "is down"])
def test_few_keys_move(kind: type[Ring | Maglev], count: int, how: str) -> None:
    members = [endpoint(number) for number in range(count)]
    before = owners(kind, members)
    for out in {0, count // 2, count - 1}:
        rest = members[:out] + members[out + 1 :]
        after = owners(kind, rest) if how == "leaves" else owners(kind, members, rest)
        moved = [old for old, new in zip(before, after, strict=True) if old != new]
        assert len(moved) / len(KEYS) <= 1.2 / count
        assert set(moved) == {members[out].name}  # nobody else's


@KINDS
def test_when_one_joins_only_its_own_keys_move(kind: type[Ring | Maglev]) -> None:
    members = [endpoint(number) for number in range(6)]
    before, after = owners(kind, members[:5]), owners(kind, members)
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {members[5].name}


@KINDS
@pytest.mark.parametrize("count", [3, 50])
def test_shares_are_even(kind: type[Ring | Maglev], count: int) -> None:
    shares = Counter(owners(kind, [endpoint(number) for number in range(count)]))
    assert len(shares) == count
    for keys in shares.values():
        assert keys / len(KEYS) == pytest.approx(1 / count, rel=0.2)


@KINDS
def test_shares_follow_weights(kind: type[Ring | Maglev]) -> None:
    members = endpoints(1, 2, 7)
    shares = Counter(owners(kind, members))
    assert [shares[each.name] / len(KEYS) for each in members] == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


@KINDS
def test_the_order_of_the_endpoints_does_not_matter(kind: type[Ring | Maglev]) -> None:
    members = endpoints(1, 3, 1, 2)
    assert owners(kind, members) == owners(kind, members[::-1])


@KINDS
def test_it_is_built_anew_only_when_members_change(kind: type[Ring | Maglev]) -> None:
    members = endpoints(1, 1, 1)
    chosen = balancer(kind)
    arranged(chosen, members)
    built = chosen._owners
    arranged(chosen, members, members[:1])
    assert chosen._owners is built
    members[0].weight = 5
    arranged(chosen, members)
    assert chosen._owners is not built


def test_other_processes_agree() -> None:
    """`hash()` of bytes would be another in each process."""
    code = (
        "from tests.unit.upstream.test_hashing import *\n"
        "print(owners(Ring, endpoints(1, 1, 2))[:100] + owners(Maglev, endpoints(1, 1, 2))[:100])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    here = owners(Ring, endpoints(1, 1, 2))[:100] + owners(Maglev, endpoints(1, 1, 2))[:100]
    assert seen == {f"{here}\n".encode()}


@KINDS
def test_an_overloaded_endpoint_is_passed_by(kind: type[Ring | Maglev]) -> None:
    members = endpoints(1, 1, 1, 1)
    chosen = balancer(kind, in_flight=40)
    arranged(chosen, members)
    key = KEYS[0]
    owner = chosen.pick(key)
    owner.active = 12  # 1.25 times the mean of 10 is 12.5
    assert chosen.pick(key) is owner
    owner.active = 13
    second = chosen.pick(key)
    assert second is not owner
    assert chosen.pick(key) is second
    for each in members:
        each.active = 13
    assert chosen.pick(key) is owner  # all are full alike


@KINDS
def test_a_quiet_cluster_has_no_overload(kind: type[Ring | Maglev]) -> None:
    members = endpoints(1, 1, 1, 1)
    chosen = balancer(kind, in_flight=3)
    arranged(chosen, members)
    owner = chosen.pick(KEYS[0])
    owner.active = 3
    assert chosen.pick(KEYS[0]) is owner


@KINDS
def test_bounded_load_counts_by_weight(kind: type[Ring | Maglev]) -> None:
    small, large = members = endpoints(1, 9)
    chosen = balancer(kind, in_flight=100)
    arranged(chosen, members)
    small.active, large.active = 13, 87  # of 12.5 and 112.5
    assert {chosen.pick(key) for key in KEYS[:100]} == {large}


@KINDS
def test_one_usable_among_many(kind: type[Ring | Maglev]) -> None:
    members = [endpoint(number) for number in range(200)]
    chosen = balancer(kind)
    arranged(chosen, members, members[77:78])
    assert {chosen.pick(key) for key in KEYS[:200]} == {members[77]}


def test_without_a_key_it_goes_anywhere() -> None:
    members = endpoints(1, 1, 1)
    chosen = balancer(Ring)
    arranged(chosen, members)
    assert {chosen.pick(None) for _ in range(100)} == set(members)


# --- keys ---


def head(*fields: bytes) -> RequestHead:
    return RequestHead(b"GET", b"/", 1, [b"GET / HTTP/1.1", *fields])


def test_key_of_a_header() -> None:
    key_of = key_function(HashOn(header="X-User"))
    assert key_of is not None
    assert key_of(head(b"x-USER:  ann \t")) == hash_key(b"ann")
    assert key_of(head(b"x-users: ann", b"x-user: bob", b"x-user: cid")) == hash_key(b"bob")
    assert key_of(head()) is None


def test_key_of_a_header_that_the_codec_keeps_apart() -> None:
    key_of = key_function(HashOn(header="X-Forwarded-For"))
    assert key_of is not None
    request = head()
    assert key_of(request) is None
    request.forwarded_for = b"10.1.1.1"
    assert key_of(request) == hash_key(b"10.1.1.1")


def test_key_of_a_cookie() -> None:
    key_of = key_function(HashOn(cookie="session"))
    assert key_of is not None
    assert key_of(head(b"Cookie: a=b; session=s1; c=d")) == hash_key(b"s1")
    assert key_of(head(b"Cookie: mysession=no", b'cookie: session="s1"')) == hash_key(b"s1")
    assert key_of(head(b"Cookie: sessions=1")) is None
    assert key_of(head()) is None


def test_no_function_for_the_source() -> None:
    assert key_function(HashOn(source=True)) is None


def test_keys_are_spread() -> None:
    """Also where they are alike, as numbers in a row are."""
    for shift in (56, 40, 16):
        counts = Counter((key >> shift) % 16 for key in KEYS)
        assert min(counts.values()) > len(KEYS) / 16 * 0.85
