"""When a server is taken as ready: `spec.canary` and `spec.timeouts`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vmtool.schema import Strict

# Blanks around an answer are not compared, so an expectation of blanks alone would be met by nothing, or anything.
Words = Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"\S")]
# A year, which every timer can hold.
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


class Canary(Strict):
    """A question with a known answer: /health alone says nothing about garbage.

    Args:
        prompt: the question, asked at temperature 0; e.g. `What is 2+2? Answer with one digit.`
        expect: the answer; e.g. `"4"`
        match: exact, but for blanks around it, or contains; e.g. `contains`
    """

    prompt: Words
    expect: Words
    match: Literal["exact", "contains"] = "exact"


class Timeouts(Strict):
    """Seconds; what is left out is computed from memory, devices and model size.

    Args:
        boot: until the agent of a libvirt guest answers; e.g. `120`
        start: from then until the server is healthy; e.g. `600`
        canary: for the canary's answer; e.g. `60`
        drain: that its answers may take to end before it is stopped or removed, or when an upgrade replaces it; 30 and
            300 when left out; e.g. `60`
    """

    boot: Seconds | None = None
    start: Seconds | None = None
    canary: Seconds | None = None
    drain: Seconds | None = None
