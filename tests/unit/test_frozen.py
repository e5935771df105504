"""Frozen dataclasses are as the standard library's own."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from functools import cached_property
from typing import Any

import pytest

from vmtool import frozen


def _family(dataclass: Any) -> dict[str, Any]:
    @dataclass(frozen=True)
    class Nothing:
        """No field."""

    @dataclass(frozen=True)
    class Base:
        """Of each kind of field."""

        name: str
        sizes: tuple[int, ...] = ()
        found: dict[str, int] = field(default_factory=dict)
        secret: str = field(default="s3cret", repr=False)
        why: str = field(kw_only=True, default="")

        @cached_property
        def total(self) -> int:
            return sum(self.sizes)

    @dataclass(frozen=True)
    class Child(Base):
        """Checked when it is made."""

        note: str = field(default="", compare=False)

        def __post_init__(self) -> None:
            if not self.name:
                raise ValueError("no name")

    @dataclass(frozen=True)
    class Shown:
        """With a text and an equality of its own."""

        value: int

        def __repr__(self) -> str:
            return "shown"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Shown)

    @dataclass(frozen=True, eq=False)
    class Itself:
        """Equal to itself alone."""

        value: int = 0

    return {kind.__name__: kind for kind in (Nothing, Base, Child, Shown, Itself)}


OURS, THEIRS = _family(frozen.dataclass), _family(dataclasses.dataclass)


@frozen.dataclass(frozen=True)
class Pair:
    """Where pickle finds it."""

    left: int
    right: tuple[str, ...] = ()


def tried(ask: Callable[[dict[str, Any]], object], family: dict[str, Any]) -> object:
    try:
        return ask(family)
    except (TypeError, ValueError, FrozenInstanceError) as error:
        return type(error)


@pytest.mark.parametrize("ask", [
    lambda f: repr(f["Base"]("a", (1, 2), {"x": 1}, "hidden", why="w")),
    lambda f: repr(f["Nothing"]()),
    lambda f: repr(f["Child"](name="a", note="n")),
    lambda f: f["Base"](),
    lambda f: f["Base"]("a", (), {}, "", "why is by name"),
    lambda f: f["Base"]("a", name="a"),
    lambda f: f["Base"]("a", other=1),
    lambda f: f["Nothing"](1),
    lambda f: f["Child"](""),
    lambda f: f["Base"]("a") == f["Base"]("a", ()),
    lambda f: f["Base"]("a") == f["Base"]("b"),
    lambda f: f["Base"]("a") == f["Child"]("a"),
    lambda f: f["Child"]("a", note="x") == f["Child"]("a", note="y"),
    lambda f: f["Nothing"]() == f["Nothing"](),
    lambda f: f["Base"]("a") == "a",
    lambda f: f["Shown"](1) == f["Shown"](2),
    lambda f: repr(f["Shown"](1)),
    lambda f: f["Itself"]() == f["Itself"](),
    lambda f: len({f["Itself"](), f["Itself"]()}),
    lambda f: len({f["Nothing"](), f["Nothing"]()}),
    lambda f: hash(f["Base"]("a")),
    lambda f: hash(f["Shown"](1)) == hash(f["Shown"](1)),
    lambda f: setattr(f["Base"]("a"), "name", "b"),
    lambda f: setattr(f["Base"]("a"), "unknown", "b"),
    lambda f: delattr(f["Base"]("a"), "name"),
    lambda f: f["Base"]("a", (1, 2)).total,
    lambda f: f["Base"]("a").found is f["Base"]("a").found,
    lambda f: dataclasses.asdict(f["Child"]("a", (1,), why="w")),
    lambda f: [each.name for each in dataclasses.fields(f["Child"])],
    lambda f: repr(dataclasses.replace(f["Base"]("a"), sizes=(3,), why="w")),
    lambda f: dataclasses.replace(f["Base"]("a"), unknown=1),
    lambda f: repr(copy.deepcopy(f["Base"]("a", (1,), {"x": 1}))),
    lambda f: f["Child"].__match_args__,
    lambda f: [(each.name, each.kind, each.annotation) for each in inspect.signature(f["Child"]).parameters.values()],
    lambda f: [each.name for each in inspect.signature(f["Child"]).parameters.values() if each.default is each.empty],
    lambda f: dataclasses.is_dataclass(f["Itself"]()),
])
def test_what_the_standard_library_does_is_done(ask: Callable[[dict[str, Any]], object]) -> None:
    assert tried(ask, OURS) == tried(ask, THEIRS)


def test_it_travels() -> None:
    assert pickle.loads(pickle.dumps(Pair(1, ("a",)))) == Pair(1, ("a",))  # noqa: S301


def test_what_holds_itself_is_shown() -> None:
    loop: list[object] = []
    pair = Pair(1, loop)  # type: ignore[arg-type]
    loop.append(pair)
    assert repr(pair) == "Pair(left=1, right=[...])"


def test_what_changes_is_not_frozen() -> None:
    with pytest.raises(TypeError, match="standard library"):
        vars(frozen)["dataclass"](frozen=False)
