"""What a server answers when it is asked for evidence: a document over a nonce and the TLS key of the connection.

The documents are those of `vmtool.serving.evidence.collect`. Of the server's words nothing is trusted: its evidence
must be over the nonce and the key that stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from vmtool.attest.appraisal import Appraisal, NotProven, appraise, describe
from vmtool.attest.cursor import require
from vmtool.attest.evidence import Evidence
from vmtool.attest.foreign_json import from_base64, mapping, parse_json, text
from vmtool.attest.reference import MEASURED, MOST_DEVICES
from vmtool.attest.request import Collateral, Request
from vmtool.attest.server.errors import NotVerified
from vmtool.attest.sort_collateral import sort_collateral
from vmtool.frozen import dataclass
from vmtool.serving.evidence.binding import DIGEST, NO_KEY, NONCE, VERSION, WITH_DEVICES, bind

MEMBERS = frozenset({"version", "nonce", "key", "kind", "evidence", "certificates", "note"})
FORMS = {VERSION: MEMBERS, WITH_DEVICES: MEMBERS | {"devices"}}
# By these it is told from other JSON with evidence.
MARKS = frozenset({"version", "nonce", "kind", "evidence"})
NONE = "none"
# Kinds of evidence of a guest. A manifest, or a device's report alone, says nothing of the server.
GUESTS = frozenset(MEASURED)
# The claim that the evidence is over the answer's own nonce and key.
OVER_ANSWER = "binding"


class NoTee(NotProven):
    """The answer is that there is no evidence."""


@dataclass(frozen=True)
class ServerEvidence:
    """A server's.

    Args:
        key: digest of the public key of its TLS connection; NO_KEY without TLS.
        kind: of its evidence; "none" when it runs in no TEE, and then the evidence is empty.
        certificates: that its host gave along; empty for none.
        note: for a person.
        devices: evidence of GPUs beside it, as NVIDIA's SDK writes it; not looked at yet.
    """

    nonce: bytes
    key: bytes
    kind: str
    evidence: bytes
    certificates: bytes
    note: str
    devices: tuple[Any, ...] = ()


def is_answer(value: Any) -> bool:
    """Whether a JSON value is meant as one."""
    return isinstance(value, dict) and value.keys() >= MARKS


def read_answer(value: Any) -> ServerEvidence:
    """The document.

    Raises:
        NotProven, ValueError: it is not well formed.
    """
    members = _members(value)
    answer = mapping(value, "the answer", members)
    require(answer.keys() == members, f"{', '.join(sorted(members - answer.keys()))} is missing")
    devices = answer.get("devices", [])
    require(isinstance(devices, list) and len(devices) <= MOST_DEVICES and ("devices" in answer) == bool(devices),
            "devices is no list of them")
    kind, note = text(answer["kind"], "kind"), text(answer["note"], "note")
    require((kind == NONE) == (answer["evidence"] is None), "its kind and its evidence do not fit")
    key = NO_KEY if answer["key"] is None else _digits(answer, "key", DIGEST)
    require((key == NO_KEY) == (answer["key"] is None), "its key is all zeros")
    evidence, certificates = (b"" if answer[name] is None else from_base64(answer[name], name)
                              for name in ("evidence", "certificates"))
    return ServerEvidence(_digits(answer, "nonce", NONCE), key, kind, evidence, certificates, note, tuple(devices))


def _members(value: Any) -> frozenset[str]:
    """Those of the version that it says it is of; each version has its own, and no other."""
    version = value.get("version") if isinstance(value, dict) else VERSION
    found = FORMS.get(version) if type(version) is int else None
    require(found is not None, f"version {str(version)[:20]} of the evidence is unknown; this vmtool knows "
                               f"{' and '.join(map(str, FORMS))}")
    return found or frozenset()


def answered(data: bytes, nonce: bytes, key: bytes) -> ServerEvidence:
    """What a server answered to this nonce, on a connection with this key.

    Raises:
        NotVerified: it is not to that nonce, not of that key, or not well formed.
    """
    try:
        answer = read_answer(parse_json(data.decode()))
        require(answer.nonce == nonce, "it answers another nonce: it is not fresh")
        require(answer.key == key, "it is bound to another TLS key than the one of this connection")
    except BaseException as error:
        raise NotVerified(f"the server's evidence is refused: {describe(error)}") from error
    return answer


def _digits(answer: Mapping[str, Any], name: str, size: int) -> bytes:
    """Lower-case hexadecimal digits, as the server writes them."""
    found = text(answer[name], name)
    data = bytes.fromhex(found)
    require(data.hex() == found and len(data) == size, f"{name} is not {2 * size} lower-case hexadecimal digits")
    return data


def open_answer(answer: ServerEvidence, recognise: Callable[[bytes], Iterator[Evidence]], *, devices: bool = True
                ) -> Iterator[Evidence]:
    """The evidence in it, all of which must be over its nonce and its key.

    Args:
        recognise: gives the pieces in a file of evidence by itself.
        devices: whether that of its GPUs is wanted.

    Raises:
        NoTee: it has none. NotProven: it is odd.
    """
    if answer.kind == NONE:
        raise NoTee(f"the server runs in no TEE: nothing is proven; it says: {answer.note[:200]}")
    require(answer.kind in GUESTS, f"{answer.kind[:20]!r} is no kind of evidence of a guest")
    presented = sort_collateral([("the certificates that the server presents", answer.certificates)]
                                if answer.certificates else [])
    require(not presented.problems, "; ".join(presented.problems))
    pieces = tuple(recognise(answer.evidence))
    require([piece.label for piece in pieces] == [answer.kind], f"its evidence is not of the kind {answer.kind[:20]!r}")
    if devices and answer.devices:
        from vmtool.attest.nvidia.evidence import read_devices

        pieces += tuple(read_devices(list(answer.devices)))
    for piece in pieces:
        yield replace(piece, appraise=_Bound(piece, answer, presented))


@dataclass(frozen=True)
class _Bound:
    """Appraises evidence for the nonce of whoever asked, which its own nonce is made of."""

    piece: Evidence
    answer: ServerEvidence
    presented: Collateral

    def __call__(self, request: Request) -> Appraisal:
        answer = self.answer
        inner = self.piece.appraise(replace(request, nonce=bind(answer.nonce, answer.key),
                                            collateral=with_presented(request.collateral, self.presented)))
        fresh = appraise(self.piece.label, self.piece.title, [
            ("freshness", lambda: request.fresh("nonce", answer.nonce))])
        name = f"{self.piece.label}.freshness"
        require(any(claim.id == name for claim in inner.claims), "nothing of it is over a nonce")
        claims = tuple(replace(claim, id=f"{self.piece.label}.{OVER_ANSWER}", evidence=self._binding(claim.evidence))
                       if claim.id == name else claim for claim in inner.claims)
        return replace(inner, claims=(*claims, *fresh.claims), optional=inner.optional | fresh.optional)

    def _binding(self, seen: str) -> str:
        key = "no TLS key" if self.answer.key == NO_KEY else f"TLS key sha256:{self.answer.key.hex()}"
        return f"nonce {self.answer.nonce.hex()[:16]}..., {key}: {seen}"


def with_presented(collateral: Collateral, presented: Collateral) -> Collateral:
    """With the certificates that the server presents as well; they lead to a root or to nothing."""
    return replace(collateral, certificates=tuple(dict.fromkeys((*collateral.certificates, *presented.certificates))))
