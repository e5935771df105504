"""The attestation agent of Confidential Containers, on the guest's loopback: a container has no device of its TEE."""

from __future__ import annotations

import json

from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Agent, NotCollected

# Kinds of evidence that `vmtool attest verify` takes in the agent's form.
KINDS = ("snp", "tdx", "cca", "virtcca")


def collect(agent: Agent, bound: bytes) -> Collected | None:
    """Evidence over the data, in the agent's JSON; None for a TEE that nobody here knows, or for none.

    The sample attester's evidence is of no TEE: it is not even asked for it.

    Raises:
        NotCollected: the agent gives none.
    """
    if agent.tee not in KINDS:
        return None
    from vmtool.serving.kbs.errors import KeyNotReleased

    try:
        found = agent.evidence(bound)
    except KeyNotReleased as error:
        raise NotCollected(f"the attestation agent: {error.why}") from error
    return Collected(agent.tee, json.dumps(found).encode())


def passed_over(agent: Agent) -> str:
    """Why it was not asked, for a person."""
    if not agent.tee:
        return "the guest's agent attests nothing"
    return f"the guest's attestation agent is of the kind {agent.tee!r}, " + (
        "whose evidence proves nothing" if agent.tee == "sample" else "which is unknown here")
