"""The policy of a launch, as a text."""

from __future__ import annotations

from pathlib import Path

from vmtool.cli.output import printable
from vmtool.errors import NotReady
from vmtool.spec.runtime import Body

HEAD = "apiVersion: vmtool/v1\nkind: ConnectPolicy\n"


def policy_text(path: Path, body: Body) -> str:
    """The policy of a launch.

    Raises:
        NotReady: it cannot be known here what its guest will show.
    """
    ca = "# The server's certificate is of vmtool's CA, when this file is there: vmtool ca export > vmtool-ca.pem\n" \
         "# ca: vmtool-ca.pem\n" if body.tls.source == "ca" else ""
    if body.runtime.tee == "none":
        return f"# Of {printable(path.name)}, a launch without a TEE: nothing about its host is proven.\n{HEAD}" \
               f"allow_unconfidential: true\n{ca}"
    missing = [f"the values that the guest shows ({body.runtime.tee}): vmtool cannot compute them from a spec yet"]
    if not body.tls.on:
        missing.append("spec.tls: without TLS there is no key that evidence is bound to")
    raise NotReady(f"{path}: no policy can be written", details=missing,
                   hint="write its `reference` by hand, as docs/attestation.md shows")
