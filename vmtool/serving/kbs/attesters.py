"""What in this guest makes evidence: the agent of Confidential Containers, the kernel's TSM reports, a TPM, or nothing.

A TPM proves what was booted, and keeps no memory from the host; the sample attester proves nothing. They are taken
where the caller allows an unconfidential guest and nothing better is there, never because something better failed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmtool.serving.evidence import tpm
from vmtool.serving.evidence.guest import Guest, NotCollected
from vmtool.serving.evidence.tsm import ROOT
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.guest_agent import GuestAgent
from vmtool.serving.kbs.tsm import TsmReports

SAMPLE, TPM = "sample", "tpm"


@dataclass(frozen=True)
class Attester:
    """Makes evidence.

    Args:
        tee: as the protocol names it.
        title: what makes it, for a person.
        primary: evidence that vouches for these bytes (a digest), as JSON values.
        additional: evidence of devices that vouches for these bytes, as a JSON text; empty when there are none.
    """

    tee: str
    title: str
    primary: Callable[[bytes], Any]
    additional: Callable[[bytes], str] = lambda digest: ""


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
        return Attester(TPM, f"the TPM ({tpm.DEVICE}), which proves what was booted and keeps no memory from the host",
                        lambda digest: _tpm_evidence(kernel.guest, digest))
    if allow_unconfidential:
        return Attester(SAMPLE, "the sample attester, which proves nothing", sample_evidence)
    raise KeyNotReleased("evidence", "this guest has nothing to prove what it runs in: no attestation agent on the "
                         f"loopback, no {ROOT}", "a lab without a TEE has allow_unconfidential, here and there")


def _tpm_evidence(guest: Guest, digest: bytes) -> Any:
    """A quote over the digest, in vmtool's own form.

    Raises:
        KeyNotReleased: the TPM gives none.
    """
    try:
        return json.loads(tpm.collect(guest, digest).evidence)
    except NotCollected as error:
        raise KeyNotReleased("evidence", str(error)) from None
    except (OSError, ValueError, IndexError) as error:
        raise KeyNotReleased("evidence", f"{tpm.DEVICE}: {getattr(error, 'strerror', None) or error}") from None


def sample_evidence(digest: bytes) -> dict[str, str]:
    """What proves nothing but that the protocol works."""
    return {"svn": "1", "report_data": base64.b64encode(digest).decode()}
