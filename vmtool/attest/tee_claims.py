"""Whether a launch's guest runs in its TEE: only a verified report of it proves that."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from vmtool import plan as p
from vmtool.attest.tee_files import COLLATERAL, files_of
from vmtool.attest.workers import ask_server
from vmtool.claims import GUEST_TEE, Claim
from vmtool.extras import adding
from vmtool.foreign import parse_json
from vmtool.instance.instance import Instance, InstanceRecord
from vmtool.machine import Reader

SECONDS = 60.0
# Without these nothing is verified; makers give them to whoever asks.
NEEDS = {"snp": "the chip's VCEK or VLEK (certificate of AMD's KDS), where the host gives none along",
         "tdx": "Intel's collateral for the platform, JSON as dcap-qvl has it"}


def launch_claim(reader: Reader, instance: Instance, record: InstanceRecord, said: Claim) -> Claim:
    """The claim of a launch: where a TEE was asked for, its own endpoint is asked for evidence.

    Args:
        said: as `tee_claim`.
    """
    if not record.confidential:
        return said
    return tee_claim(reader, said, order_of(instance, record), record.tee)


def order_of(instance: Instance, record: InstanceRecord) -> ask_server.Order:
    """The question for its evidence."""
    return ask_server.Order(record.server, files_of(instance.paths, record.tee))


def tee_claim(reader: Reader, said: Claim, order: Any, tee: str) -> Claim:
    """Ask for evidence over a fresh nonce and the endpoint's TLS key, and verify it.

    Args:
        said: the same claim by the guest's own word, which may contradict the request and proves nothing.
        order: of the worker that asks.
    """
    if said.verdict == "failed":
        return said
    answer = reader.run(p.question(order), deadline=SECONDS)
    if answer is None or answer.status:
        why = answer.err.strip()[-300:] if answer else f"not within {SECONDS:.0f} s"
        return replace(said, evidence=f"{said.evidence}; it gave no evidence: {why}")
    try:
        return judge_answer(answer.out, tee, said)
    except ImportError as error:
        return replace(said, evidence=f"{said.evidence}; verifying evidence needs the Python package {error.name}: "
                                      f"{adding('attest')}")


def judge_answer(text: str, tee: str, said: Claim) -> Claim:
    """What an answer proves; as of the time when it came, so that a bundle says the same later.

    Raises:
        ImportError: a library is missing.
    """
    from vmtool.attest.appraisal import describe
    from vmtool.attest.recognise import appraise_pieces, recognise_alone
    from vmtool.attest.reference import MEASURED
    from vmtool.attest.server.answer import NONE, answered, open_answer

    try:
        found = parse_json(text)
        expected = found["expected"]
        answer = answered(found["answer"].encode(), bytes.fromhex(found["nonce"]), bytes.fromhex(found["key"]))
        if answer.kind == NONE:
            return replace(said, evidence=f"{said.evidence}; its endpoint has no evidence: {answer.note[:200]}")
        if answer.kind != tee or not any(answer.key):
            return Claim(GUEST_TEE, "failed", f"its evidence is of {answer.kind[:20]}, not of {tee} over a TLS key")
        if missing := [key for key in MEASURED[tee] if not expected.get(key)]:
            return replace(said, evidence=f"{said.evidence}; {tee}.{missing[0]} was not computed before the start: "
                                          + "; ".join(found["missing"])[:300])
        appraisals = appraise_pieces(tuple(open_answer(answer, recognise_alone, devices=False)), _request(found, tee))
    except ImportError:
        raise
    except BaseException as error:
        return Claim(GUEST_TEE, "failed", f"no evidence of a TEE: {describe(error)}")
    claims = {claim.id: claim for each in appraisals for claim in each.claims}
    wrong = [claims[name] for each in appraisals for name in each.unproven]
    if wrong or claims[f"{tee}.measurement"].verdict != "proven":
        return _unproven(wrong, tee, said, found.get("ignored", ()))
    return Claim(GUEST_TEE, "proven", f"a verified report over a fresh nonce and the endpoint's TLS key sha256:"
                 f"{answer.key.hex()} shows {claims[f'{tee}.measurement'].evidence}, as computed before the start")


def _request(found: Mapping[str, Any], tee: str) -> Any:
    from vmtool.attest.facts import read_roots
    from vmtool.attest.reference import Reference
    from vmtool.attest.request import Request
    from vmtool.attest.sort_collateral import sort_collateral
    from vmtool.host.local import LocalMachine

    collateral = sort_collateral((name, base64.b64decode(data)) for name, data in found["collateral"].items())
    return Request(read_roots(LocalMachine(), None), datetime.fromisoformat(found["at"]), collateral,
                   Reference.model_validate({tee: found["expected"]}), bytes.fromhex(found["nonce"]))


def _unproven(wrong: list[Claim], tee: str, said: Claim, ignored: Sequence[str]) -> Claim:
    """Failed when something contradicts; what only lacks a file is not checked.

    Args:
        ignored: files in the place of such ones, and why they are none.
    """
    if failed := "; ".join(f"{claim.id}: {claim.evidence}" for claim in wrong if claim.verdict == "failed"):
        return Claim(GUEST_TEE, "failed", f"its evidence does not prove it: {failed[:600]}")
    why = "; ".join(dict.fromkeys(claim.evidence for claim in wrong))
    beside = f"; ignored there: {'; '.join(map(str, ignored))[:300]}" if ignored else ""
    place = f"the state directory's {COLLATERAL}/"
    missing = f"what may be missing is {NEEDS[tee]}: a file in {place}" if tee in NEEDS else (
        "no root of its maker is in vmtool: attest evidence asks for it, and attest verify --roots verifies it")
    return replace(said, evidence=f"{said.evidence}; its evidence was not verified: {why[:300]}; {missing}{beside}")
