"""Sessions: one challenge, one attestation, one resource each; bounded in number and time."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from vmtool.serving.kbs.tee_keys import PublicKey

NONCE = 32
# Of one address: others must find room.
SHARE = 10


@dataclass
class Session:
    """One guest's.

    Args:
        name: the cookie's value.
        ends: when, by the clock of the sessions.
        key: the guest's, once its evidence was accepted; else None.
        granted: names of the resources that it may have.
        challenge: that its TPM was given, as it is kept until the answer; None without one.
    """

    name: str
    address: str
    tee: str
    nonce: str
    ends: float
    key: PublicKey | None = None
    granted: frozenset[str] = frozenset()
    challenge: bytes | None = None


class Sessions:
    """All of them, in memory only: a new start knows none.

    Args:
        most: at once; one address has at most a tenth of them.
        seconds: that each lives.
        clock: seconds that only grow.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self.most, self.seconds, self.clock = most, seconds, clock
        self.waiting: dict[str, Session] = {}
        self.attested: dict[str, Session] = {}

    def begin(self, address: str, tee: str) -> Session | None:
        """A new one with its challenge; None when there is no room."""
        self._forget_old()
        everybody = (*self.waiting.values(), *self.attested.values())
        if len(everybody) >= self.most or sum(each.address == address for each in everybody) >= max(
                1, self.most // SHARE):
            return None
        session = Session(secrets.token_hex(16), address, tee,
                          base64.b64encode(secrets.token_bytes(NONCE)).decode(), self.clock() + self.seconds)
        self.waiting[session.name] = session
        return session

    def answer(self, name: str) -> Session | None:
        """The session whose challenge is being answered: once, whatever becomes of it."""
        self._forget_old()
        return self.waiting.pop(name, None)

    def attest(self, session: Session, key: PublicKey, granted: frozenset[str]) -> None:
        """Its evidence was accepted."""
        session.key, session.granted = key, granted
        self.attested[session.name] = session

    def use(self, name: str) -> Session | None:
        """The session that asks for its resource: once, whatever becomes of it."""
        self._forget_old()
        return self.attested.pop(name, None)

    def _forget_old(self) -> None:
        now = self.clock()
        for held in (self.waiting, self.attested):
            for name in [name for name, each in held.items() if each.ends <= now]:
                del held[name]
