"""The step of a launch that works out what its guest's evidence must show."""

from __future__ import annotations

from vmtool import plan as p
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.tee_files import REFERENCE, Files
from vmtool.attest.workers import compute_reference


def plan_tee_reference(guest: MeasuredGuest, name: str, files: Files) -> p.Step:
    """From the files that the guest is about to boot; what cannot be computed is named in the file."""
    order = compute_reference.Order(name, guest, files.evidence / REFERENCE)
    return p.Step(f"work out what the guest's evidence of {guest.tee} must show",
                  (p.run_worker(order, deadline=300.0),))
