"""Who has to go when there is no more room."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from vmtool.serving.front.crowd import Crowd, address_group
from vmtool.serving.front.limits import Limits


@dataclass(frozen=True)
class One:
    """A connection."""

    address: str
    number: int


def crowd(connections: int = 16, per_address: int = 8) -> Crowd[One]:
    return Crowd(Limits(connections=connections, keyless_per_address=per_address))


def test_an_address_with_its_share_gives_up_the_connection_that_waited_longest() -> None:
    full = crowd()
    mine = [One("a", number) for number in range(8)]
    assert [full.admit(one) for one in mine] == [None] * 8
    assert full.admit(One("a", 8)) == mine[0]
    assert full.admit(One("b", 0)) is None
    assert len(full) == 9


def test_many_addresses_do_not_keep_out_a_newcomer() -> None:
    full = crowd()
    others = [One(str(number), number) for number in range(16)]
    for one in others:
        assert full.admit(one) is None
    assert full.admit(One("new", 0)) == others[0]
    assert len(full) == 16


def test_one_that_is_served_is_never_ended_and_one_that_waits_with_a_key_is_last() -> None:
    full = crowd()
    served, idle = [One("s", number) for number in range(6)], [One("i", number) for number in range(6)]
    for one in (*served, *idle):
        full.admit(one)
        full.serve(one)
    for one in idle:
        full.rest(one)
    strangers = [One("x", number) for number in range(4)]
    for one in strangers:
        full.admit(one)
    assert full.admit(One("y", 0)) == strangers[0]
    assert [full.admit(One("z", number)) for number in range(4)] == [*strangers[1:], One("y", 0)]


def test_those_with_a_key_that_wait_make_room_for_a_newcomer() -> None:
    full = crowd()
    idle = [One("i", number) for number in range(16)]
    for one in idle:
        full.admit(one)
        full.serve(one)
        full.rest(one)
    full.serve(idle[0])
    full.rest(idle[0])
    assert full.admit(One("new", 0)) == idle[1]


def test_when_all_are_served_the_newcomer_goes() -> None:
    full = crowd()
    for number in range(16):
        full.admit(One("s", number))
        full.serve(One("s", number))
    newcomer = One("new", 0)
    assert full.admit(newcomer) is newcomer
    assert newcomer not in list(full)


@pytest.mark.parametrize("seed", range(20))
def test_the_books_are_right_whatever_happens(seed: int) -> None:
    full = crowd(6, 3)
    there: set[One] = set()
    numbers = itertools.count(seed * 7919 + 1)
    for _ in range(400):
        number = next(numbers) * 2654435761 % 2**32
        one = One("abc"[number % 3], number // 3 % 8)
        action = number // 64 % 4
        if action == 0 and one not in there:
            there.add(one)
            if leaver := full.admit(one):
                there.remove(leaver)
        elif action == 3:
            full.leave(one)
            there.discard(one)
        else:
            (full.serve if action == 1 else full.rest)(one)
        assert set(full) == there
        assert len(full) == len(there) <= 6
        assert {member for group in full.addresses.values() for member in group} == set(full.keyless)
        assert all(0 < len(group) <= 3 for group in full.addresses.values())


@pytest.mark.parametrize(("host", "group"), [
    ("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ("fe80::1%eth0", "fe80::/64"),
])
def test_an_address_is_an_ipv4_address_or_a_network_of_ipv6(host: str, group: str) -> None:
    assert address_group(host) == group
