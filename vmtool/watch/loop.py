"""The turns of watch: look, decide, write down what must not be forgotten, then act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vmtool.watch.decide import decide
from vmtool.watch.model import Act, Memory, Seen

# Seconds between two looks; a process that ends is noticed at once. While a command or a question is under way, a
# person's stop or the reply must be noticed soon.
IDLE, BUSY = 10.0, 1.0
# However much happens, between two looks there is that much rest.
PAUSE = 0.2


class World(Protocol):
    """What watch sees and can do."""

    def look(self) -> Mapping[str, Seen]:
        """Every instance now, with the results that came in since the last look."""

    def load(self, name: str) -> Memory:
        """What was written down of it; an empty memory when nothing was, or before this boot."""

    def save(self, name: str, memory: Memory) -> None:
        """Write down the part that must outlive watch, durably."""

    def do(self, name: str, act: Act) -> None:
        """Begin an act, or write down a note; nothing is waited for."""

    def free(self) -> bool:
        """Whether there is room for one more start."""


class Watch:
    """Remembers each instance from turn to turn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memories: dict[str, Memory] = {}

    def turn(self, now: float) -> None:
        """One look at everything, and what follows from it."""
        seen = self.world.look()
        self.memories = {name: memory for name, memory in self.memories.items() if name in seen}
        for name, one in seen.items():
            before = self.memories[name] if name in self.memories else self.world.load(name)
            after, acts = decide(now, one, before, free=self.world.free())
            # First the memory: a kill right after it costs a try, never a promise. Of what is not promised there is
            # nothing to remember, and a person may be removing its files just now.
            if after.promised and counts(after) != counts(before):
                self.world.save(name, after)
            self.memories[name] = after
            for act in acts:
                self.world.do(name, act)

    def rest(self, now: float) -> float:
        """Seconds until the next look: a start that is due is not left waiting."""
        due = [memory.next_try - now for memory in self.memories.values() if memory.next_try is not None]
        return max(0.0, min([IDLE, *due]))


def counts(memory: Memory) -> tuple[int, bool]:
    """What a look at the instance does not show."""
    return memory.tries, memory.given_up
