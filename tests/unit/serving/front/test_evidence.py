"""What peers without a key can ask of the guest: so often, so many at once, and no device holds anybody up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import NotCollected
from vmtool.serving.front import clients
from vmtool.serving.front.denied import Denied
from vmtool.serving.front.evidence import GuestEvidence
from vmtool.serving.front.limits import Limits

NONCE = f"nonce={'0a' * 32}"
KEY = b"k" * 32
LIMITS = replace(Limits(), evidence=10, evidence_per_address=4, evidence_waiting=2, evidence_seconds=20.0)


def statuses(evidence: GuestEvidence, *addresses: str, client: str = "") -> list[int]:
    """Of requests one after the other."""
    async def ask() -> list[int]:
        found = []
        for address in addresses:
            try:
                found.append((await evidence.respond(NONCE, address, KEY, client)).status)
            except Denied as denied:
                found.append(denied.status)
        return found

    return asyncio.run(ask())


def nothing(bound: bytes) -> None:
    return None


def test_the_answer_is_over_this_nonce_and_this_key() -> None:
    response = asyncio.run(GuestEvidence(LIMITS, nothing).respond(NONCE, "a", KEY))
    assert isinstance(response.body, bytes)
    document = json.loads(response.body)
    assert (document["nonce"], document["key"], document["kind"]) == ("0a" * 32, KEY.hex(), "none")
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("query", ["", "nonce", "nonce=", f"nonce={'0A' * 32}", f"nonce={'0a' * 33}", f"{NONCE}&x=1",
                                   f"{NONCE}\n", f"x=1&{NONCE}", f"nonce=%30a{'0a' * 31}", f"nonce={'٠a' * 32}"])
def test_any_other_question_is_refused_and_costs_nothing(query: str) -> None:
    evidence = GuestEvidence(LIMITS, nothing)
    with pytest.raises(Denied) as denied:
        asyncio.run(evidence.respond(query, "a", KEY))
    assert (denied.value.status, len(evidence.addresses.known)) == (400, 0)


def test_an_address_has_its_share_and_takes_nothing_of_the_others() -> None:
    now = [0.0]
    evidence = GuestEvidence(LIMITS, nothing, lambda: now[0])
    assert statuses(evidence, *"aaaaaa") == [200] * 4 + [429] * 2
    assert statuses(evidence, *"bbcdefg") == [200] * 6 + [429], "all together have theirs"
    now[0] = 60.0
    assert statuses(evidence, *"aaaaa") == [200] * 4 + [429]


def test_who_has_a_key_is_not_kept_from_asking_by_those_who_have_none() -> None:
    evidence = GuestEvidence(LIMITS, nothing, lambda: 0.0)
    statuses(evidence, *"abcdefghijklmnop")
    assert statuses(evidence, "z") == [429], "all without one have used theirs up"
    assert statuses(evidence, *["a"] * 5, client="default") == [200] * 4 + [429], "it has its own share"
    assert statuses(evidence, "a", client="other") == [200]


def test_a_full_queue_has_room_for_who_has_a_key() -> None:
    evidence = GuestEvidence(LIMITS, nothing)
    evidence.waiting = LIMITS.evidence_waiting
    assert (statuses(evidence, "a"), statuses(evidence, "a", client="default")) == ([503], [200])


def test_addresses_without_end_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MOST_ADDRESSES", 3)
    evidence = GuestEvidence(LIMITS, nothing)
    statuses(evidence, *"abcdefgh")
    assert list(evidence.addresses.known) == ["f", "g", "h"]


def test_a_device_that_fails_says_so() -> None:
    def fails(bound: bytes) -> Collected | None:
        raise NotCollected("/dev/x: broken", 3)

    with pytest.raises(Denied, match="no evidence: /dev/x: broken") as denied:
        asyncio.run(GuestEvidence(LIMITS, fails).respond(NONCE, "a", KEY))
    assert denied.value.status == 503


@pytest.fixture
def hanging() -> tuple[threading.Event, Callable[[bytes], Collected | None]]:
    ended = threading.Event()

    def hangs(bound: bytes) -> Collected | None:
        ended.wait(60)
        return None

    return ended, hangs


def test_only_so_many_wait_and_one_thread_hangs(hanging: tuple[threading.Event, Callable[[bytes], Collected | None]]
                                                ) -> None:
    ended, hangs = hanging
    evidence = GuestEvidence(replace(LIMITS, evidence_seconds=0.05), hangs)

    async def ask() -> list[str]:
        results = await asyncio.gather(*(evidence.respond(NONCE, each, KEY) for each in "abcd"), return_exceptions=True)
        return [str(result) for result in results]

    before = set(threading.enumerate())
    found = asyncio.run(ask())
    assert found[2:] == ["others wait for evidence; try again"] * 2
    assert all("does not answer" in each for each in found[:2])
    assert "still does not answer" in asyncio.run(_again(evidence))
    assert len(set(threading.enumerate()) - before) == 1
    ended.set()
    assert evidence.done.wait(20)
    evidence.limits = LIMITS
    assert statuses(evidence, "z") == [200]


async def _again(evidence: GuestEvidence) -> str:
    try:
        return str((await evidence.respond(NONCE, "e", KEY)).status)
    except Denied as denied:
        return denied.message
