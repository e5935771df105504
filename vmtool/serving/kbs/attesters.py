"""What in this guest makes evidence: the agent of Confidential Containers, the kernel's TSM reports, a TPM, or nothing.

A TPM proves what was booted, and keeps no memory from the host; the sample attester proves nothing. They are taken
where the caller allows an unconfidential guest and nothing better is there, never because something better failed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from vmtool.serving.evidence import tpm, tpm_endorsement
from vmtool.serving.evidence.guest import Guest, NotCollected
from vmtool.serving.evidence.tsm import ROOT
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.guest_agent import GuestAgent
from vmtool.serving.kbs.tsm import TsmReports

SAMPLE, TPM, METADATA = "sample", "tpm", "tee-metadata"
T = TypeVar("T")


@dataclass(frozen=True)
class Attester:
    """Makes evidence.

    Args:
        tee: as the protocol names it.
        title: what makes it, for a person.
        primary: evidence that vouches for these bytes (a digest), as JSON values.
        additional: evidence of devices that vouches for these bytes, as a JSON text; empty when there are none.
        introduction: what goes with the request for a challenge, in the protocol's `extra-params`.
        responded: from what the broker said to that, to further members of the primary evidence.
    """

    tee: str
    title: str
    primary: Callable[[bytes], Any]
    additional: Callable[[bytes], str] = lambda digest: ""
    introduction: Callable[[], Mapping[str, Any]] = dict
    responded: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda said: {}


def find_attester(agent: GuestAgent | None, *, allow_unconfidential: bool,
                  reports: TsmReports | None = None) -> Attester:
    """The best one of this guest.

    Args:
        agent: the one that answers on the loopback, if any.
        reports: of the kernel; None for this one.

    Raises:
        KeyNotReleased: there is none.
    """
    if agent and agent.tee and agent.tee != SAMPLE:
        return Attester(agent.tee, "the attestation agent", agent.evidence, agent.additional)
    kernel = reports or TsmReports()
    if tee := kernel.tee():
        return Attester(tee, f"the kernel ({ROOT})", kernel.evidence)
    if allow_unconfidential and kernel.guest.exists(tpm.DEVICE):
        return tpm_attester(kernel.guest)
    if allow_unconfidential:
        return Attester(SAMPLE, "the sample attester, which proves nothing", sample_evidence)
    raise KeyNotReleased("evidence", "this guest has nothing to prove what it runs in: no attestation agent on the "
                         f"loopback, no {ROOT}", "a lab without a TEE has allow_unconfidential, here and there")


def tpm_attester(guest: Guest) -> Attester:
    """Quotes, in vmtool's own form. The attestation key is introduced with the certificate of the TPM's maker; a broker
    that knows the maker answers with a challenge that only this TPM can answer, and only for this key."""
    return Attester(
        TPM, f"the TPM ({tpm.DEVICE}), which proves what was booted and keeps no memory from the host",
        lambda digest: _asked(lambda: json.loads(tpm.collect(guest, digest).evidence)),
        introduction=lambda: _asked(lambda: _introduction(guest)),
        responded=lambda said: _asked(lambda: _responded(guest, said)))


def _introduction(guest: Guest) -> dict[str, Any]:
    """In the protocol's own place for what an attester says before it is challenged."""
    key, certificate = tpm_endorsement.introduction(guest)
    said = {"ak_public": _text(key), "ek_certificate": _text(certificate)}
    return {METADATA: {"primary_tee": {"tee": TPM, "metadata": said}, "additional_tees": []}} if certificate else {}


def _responded(guest: Guest, said: Mapping[str, Any]) -> dict[str, Any]:
    """The challenge's secret, beside the certificate that the challenge was for."""
    challenge = said.get(TPM)
    if not isinstance(challenge, str):
        return {}
    secret = tpm_endorsement.activate(guest, base64.b64decode(challenge, validate=True))
    _, certificate = tpm_endorsement.introduction(guest)
    return {"ek_certificate": _text(certificate), "activated": _text(secret)}


def _asked(ask: Callable[[], T]) -> T:
    """What the TPM gives.

    Raises:
        KeyNotReleased: it gives nothing.
    """
    try:
        return ask()
    except NotCollected as error:
        raise KeyNotReleased("evidence", str(error)) from None
    except (OSError, ValueError, IndexError) as error:
        raise KeyNotReleased("evidence", f"{tpm.DEVICE}: {getattr(error, 'strerror', None) or error}") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sample_evidence(digest: bytes) -> dict[str, str]:
    """What proves nothing but that the protocol works."""
    return {"svn": "1", "report_data": base64.b64encode(digest).decode()}
