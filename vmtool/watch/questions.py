"""The questions of watch, put to threads so that a server that hangs keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from vmtool.claims import GUEST_TEE, Claim, unmet
from vmtool.endpoint.answers import visible
from vmtool.endpoint.client import address_of
from vmtool.errors import VmtoolError
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.paths import State
from vmtool.plan.workers import question
from vmtool.watch.facts import Watched
from vmtool.watch.model import Result
from vmtool.watch.workers import claims

AT_ONCE = 4
HEALTH_SECONDS = 10.0
CLAIMS_SECONDS = 300.0
Answer = tuple[Result, str]


@dataclass(frozen=True)
class Reply:
    """What a question gave, about one run of an instance.

    Args:
        what: the act that asked, such as "ask-health".
    """

    name: str
    run: str
    what: str
    result: Result
    why: str


class Questions:
    """Asks, each question about an instance once at a time."""

    def __init__(self, state: State, host: Host) -> None:
        self.state, self.host = state, host
        self.asked: set[tuple[str, str]] = set()
        self._replies: SimpleQueue[Reply] = SimpleQueue()
        self.pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="question")
        self.kinds = {"ask-health": self._health, "ask-canary": self._canary, "ask-claims": self._claims}

    def ask(self, one: Watched, what: str) -> None:
        """Ask, unless it is under way."""
        if (one.instance.name, what) not in self.asked:
            self.asked.add((one.instance.name, what))
            self.pool.submit(self._answer, one, what)

    def replies(self) -> Iterator[Reply]:
        """Those that came in since the last call."""
        while not self._replies.empty():
            reply = self._replies.get()
            self.asked.discard((reply.name, reply.what))
            yield reply

    def _answer(self, one: Watched, what: str) -> None:
        try:
            result, why = self.kinds[what](one)
        except Exception as error:  # whatever it is, the next one must be asked
            result, why = "unanswered", str(error) if isinstance(error, VmtoolError | OSError) else repr(error)
        self._replies.put(Reply(one.instance.name, one.run, what, result, why[:300]))

    def _health(self, one: Watched) -> Answer:
        address = address_of(self.host, one.instance.known().server)
        status, text = self.host.request("GET", f"{address}/health", deadline=HEALTH_SECONDS, trust=address.trust)
        return ("good", "") if status == 200 else ("bad", text.strip() or f"status {status}")

    def _canary(self, one: Watched) -> Answer:
        if one.promise.canary is None:
            return "", ""
        answer, right = one.promise.canary.ask(self.host)
        if right:
            return "good", ""
        # It gave the right answer at its start: one that runs on to the limit of tokens is as wrong as any other.
        return ("bad", f"it answered {answer.text[:200]!r}") if visible(answer.text) else ("unanswered", answer.problem)

    def _claims(self, one: Watched) -> Answer:
        """What was asked for, or was proven at the start, and is not so now."""
        output = self.host.run(question(claims.Order(self.state.root, one.instance.name)), CLAIMS_SECONDS)
        if output is None or output.status:
            return "bad", "its claims could not be verified"
        found = [Claim(**claim) for claim in parse_json(output.out)]
        bad = set(unmet(found, confidential=one.instance.known().confidential))
        bad |= one.promise.proven - {claim.id for claim in found if claim.verdict == "proven"}
        # Whoever reaches the endpoint can keep its evidence from being given for a while: that contradicts nothing.
        silent = [claim.evidence for claim in found if (claim.id, claim.verdict) == (GUEST_TEE, "not-checked")]
        if bad == {GUEST_TEE} and silent:
            return "unanswered", silent[0]
        return ("bad", f"not proven any more: {', '.join(sorted(bad))}") if bad else ("good", "")
