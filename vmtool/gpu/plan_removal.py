"""The step whose undo gives an owner's devices back, whoever remembers that it has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vmtool.gpu.restore import undo_moves
from vmtool.gpu.saved_state import GpuSavedState, claims, proofs, records
from vmtool.paths import State
from vmtool.plan import Remove, Step

DEADLINE = 20.0


def removal_of_devices(state: State, owner: str, claimed: Mapping[str, str],
                       saved: Mapping[str, GpuSavedState]) -> Iterator[Step]:
    """What was claimed and bound for the owner, such as "instance chat"; empty for `vmtool gpu bind`."""
    mine = sorted(bdf for bdf, who in claimed.items() if who == owner)
    # A vmtool that did not note for whom it bound a device claimed it for them.
    bound = [record for bdf, record in sorted(saved.items())
             if record.owner == owner or (record.owner is None and bdf in mine)]
    if mine:
        yield Step(f"{', '.join(mine)}: claimed", undo=tuple(Remove(claims(state) / bdf) for bdf in mine))
    if bound:
        names = [record.bdf for record in bound]
        yield Step(f"{', '.join(names)}: bound to {', '.join(sorted({record.bound_to for record in bound}))}",
                   undo=(*undo_moves(state, bound, DEADLINE),
                         *(Remove(directory / bdf) for directory in (proofs(state), records(state)) for bdf in names)))
