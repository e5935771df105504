"""Keeping the evidence of a look's own guest, among what the look's claims rest on."""

from __future__ import annotations

import base64

from vmtool import plan as p
from vmtool.attest.tee_claims import order_of
from vmtool.attest.tee_files import ANSWER, COLLATERAL
from vmtool.bundle.observed import ObservingReader
from vmtool.foreign import parse_json
from vmtool.instance.instance import Instance
from vmtool.machine import Host


def keep_answer(host: Host, observed: ObservingReader, instance: Instance) -> None:
    """Write the evidence that a look got, with the collateral that it is verified with; none of an earlier look stays.

    Args:
        observed: by which the look was made.
    """
    record, evidence = instance.known(), instance.paths.evidence
    if not record.confidential:
        return
    host.remove(evidence / ANSWER)
    host.remove(evidence / COLLATERAL)
    answer = observed.answered(p.question(order_of(instance, record)))
    if answer is None or answer.status:
        return
    found = parse_json(answer.out)
    if parse_json(found["answer"])["evidence"] is None:
        return
    host.write(evidence / ANSWER, found["answer"])
    for name, content in found["collateral"].items():
        host.write(evidence / COLLATERAL / name, base64.b64decode(content))
