"""Evidence that is in a bundle, verified as if it came by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vmtool.attest.appraisal import Appraisal, describe, refused
from vmtool.attest.evidence import Evidence
from vmtool.attest.recognise import UnknownEvidence, appraise_piece, appraise_pieces, recognise
from vmtool.attest.reference import MEASURED, Reference
from vmtool.attest.request import Request
from vmtool.attest.server.answer import OVER_ANSWER
from vmtool.attest.sort_collateral import sort_collateral
from vmtool.bundle.chain import launch_root_of
from vmtool.bundle.contents import CLAIMS, EVIDENCE

COLLATERAL = f"{EVIDENCE}/collateral/"
# What makes evidence stand for a launch: it is over its digests, and of a guest that somebody trusted named.
BINDING = ("freshness", "measurement")


def appraise_evidence(members: Mapping[str, bytes], request: Request) -> tuple[tuple[Appraisal, ...], str]:
    """What is claimed of the evidence among a bundle's members, and which of it binds the launch.

    Args:
        request: its collateral has the bundle's added, which is trusted as little as any.
    """
    added = sort_collateral((name, data) for name, data in members.items() if name.startswith(COLLATERAL))
    given = request.collateral
    request = replace(request, collateral=replace(
        given, certificates=(*given.certificates, *added.certificates), crls=(*given.crls, *added.crls),
        tdx=(*given.tdx, *added.tdx), rims=(*given.rims, *added.rims), problems=(*given.problems, *added.problems)))
    pieces, problems = _pieces(members)
    if not pieces and request.nonce is not None:
        problems.append(refused(EVIDENCE, EVIDENCE, "the bundle has no evidence that could have the nonce"))
    return (*problems, *appraise_pieces(pieces, request)), _binding(members, pieces, request)


def _pieces(members: Mapping[str, bytes]) -> tuple[list[Evidence], list[Appraisal]]:
    pieces: list[Evidence] = []
    problems: list[Appraisal] = []
    for name, data in members.items():
        if not name.startswith(f"{EVIDENCE}/") or name == CLAIMS or name.startswith(COLLATERAL):
            continue
        try:
            pieces += [replace(piece, title=f"{piece.title} ({name})") for piece in recognise(data)]
        except UnknownEvidence:
            continue  # something else that was seen of the launch
        except BaseException as error:
            problems.append(refused(EVIDENCE, EVIDENCE, f"{name}: {describe(error)}"))
    return pieces, problems


def _binding(members: Mapping[str, bytes], pieces: Sequence[Evidence], request: Request) -> str:
    """The first evidence of an expected guest that is over what was launched."""
    over = replace(request, nonce=bytes.fromhex(launch_root_of(members)))
    return next((piece.title for piece in pieces if _is_expected(piece.label, request.reference)
                 and _proves(appraise_piece(piece, over, pieces))), "")


def _is_expected(kind: str, reference: Reference) -> bool:
    """Whether somebody said which guest of this kind it must be. A device is none: whoever has one can have it sign
    what he likes, and its maker's own values say that it is genuine."""
    return kind in MEASURED and all(getattr(getattr(reference, kind), key) for key in MEASURED[kind])


def _proves(appraisal: Appraisal) -> bool:
    """What a server answers to anybody's nonce says nothing of a launch, also when that nonce is its digest."""
    proven = {claim.id for claim in appraisal.claims if claim.verdict == "proven"}
    answered = any(claim.id == f"{appraisal.label}.{OVER_ANSWER}" for claim in appraisal.claims)
    return appraisal.verified and not answered and {f"{appraisal.label}.{name}" for name in BINDING} <= proven
