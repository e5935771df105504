"""Whether a guest booted what it was given, as its TPM shows: a quote over a fresh nonce against what was computed.

The host runs this TPM. So a quote proves the boot to whoever trusts the host, and tries the chain of measuring, quoting
and verifying; against the host it proves nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from vmtool import plan as p
from vmtool.claims import Claim
from vmtool.extras import adding
from vmtool.foreign import parse_json
from vmtool.instance.instance import Instance, InstanceRecord
from vmtool.libvirt.workers import guest_quote
from vmtool.machine import Reader

NAME = "guest.measured"
SECONDS = 60.0
# Among an instance's evidence.
REFERENCE, QUOTE = "reference.yaml", "quote.json"
SOFTWARE = "by a software TPM, which the host runs: it proves nothing against the host"


def measured_claim(reader: Reader, instance: Instance, record: InstanceRecord, *, whole: bool) -> Claim:
    """Ask for a quote, and verify it."""
    if not whole:
        return Claim(NAME, "not-checked", "no quote was asked for; with --proof one is")
    paths, evidence = instance.paths, instance.paths.proof.parent
    order = guest_quote.Order(Path(record.details["channel"]), paths.pidfile, paths.console, evidence / REFERENCE,
                              evidence / QUOTE)
    answer = reader.run(p.question(order), deadline=SECONDS)
    if answer is None or answer.status:
        why = answer.err.strip()[-300:] if answer else f"not within {SECONDS:.0f} s"
        return Claim(NAME, "not-checked", f"the guest gave no quote: {why}")
    try:
        return judge_quote(answer.out)
    except ImportError as error:
        return Claim(NAME, "not-checked", f"verifying a quote needs the Python package {error.name}: "
                                          f"{adding('attest')}")


def judge_quote(text: str) -> Claim:
    """What a quote proves; its key is that of the TPM which this launch made, and no other is known."""
    from vmtool.attest.appraisal import describe
    from vmtool.attest.measure.software_tpm import KERNEL, STUB
    from vmtool.attest.reference import Reference
    from vmtool.attest.request import Request, Roots
    from vmtool.attest.tpm.claims import appraise_tpm
    from vmtool.attest.tpm.evidence_json import parse_evidence
    from vmtool.attest.tpm.structures import parse_public

    try:
        found = parse_json(text)
        key = parse_public(parse_evidence(found["evidence"]).key).name.hex()
        reference = Reference.model_validate({"tpm": found["expected"] | {"keys": [key]},
                                              "launch": found.get("launch", {})})
        if not reference.tpm.pcrs:
            return Claim(NAME, "not-checked", "no values of registers were computed")
        request = Request(Roots({}), datetime.now(UTC), reference=reference, nonce=bytes.fromhex(found["nonce"]))
        appraisal = appraise_tpm(found["evidence"], request)
    except ImportError:
        raise
    except BaseException as error:
        return Claim(NAME, "failed", f"no evidence of a TPM: {describe(error)}")
    if wrong := [f"{claim.id}: {claim.evidence}" for claim in appraisal.claims if claim.id in appraisal.unproven]:
        return Claim(NAME, "failed", "; ".join(wrong))
    shown = next(claim.evidence for claim in appraisal.claims if claim.id == "tpm.measurement")
    if missing := {KERNEL, STUB} - reference.tpm.pcrs.get("sha256", {}).keys():
        return Claim(NAME, "not-checked", f"{shown} as computed before the start; register {min(missing)} was not "
                                          f"computed, and the evidence's {REFERENCE} says why")
    return Claim(NAME, "proven", f"{shown} as computed before the start, quoted over a fresh nonce {SOFTWARE}")
