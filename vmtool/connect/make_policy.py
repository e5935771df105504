"""The policy of a launch, as a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vmtool.attest.reference import MEASURED, TEES
from vmtool.cli.output import printable
from vmtool.errors import NotReady
from vmtool.spec.runtime import Body
from vmtool.tee.table import NONE

HEAD = "apiVersion: vmtool/v1\nkind: ConnectPolicy\n"
CA = ("# The server's certificate is of vmtool's CA. Without a TEE this tells whether it is the right server:\n"
      "# vmtool ca export > vmtool-ca.pem\n# ca: vmtool-ca.pem\n")
GPUS = ("# The launch passes on GPUs. To require evidence of NVIDIA's as well, name the RIMs of their driver\n"
        "# and VBIOS in `collateral: [...]`, and add to `reference`:\n#   nvidia: {{count: {}}}\n")
HELD = ("# The TLS key is made on its host and handed over: whoever runs that host can read what is sent all the "
        "same.\n# spec.tls.source: guest has the endpoint make it.\n")
Values = Mapping[str, Mapping[str, Any]]


def policy_text(path: Path, body: Body, values: Values, missing: Mapping[str, str]) -> str:
    """What a client shall require of the launch that a spec describes.

    Args:
        values: what its evidence must show, by section and key; missing: what is not known of it, and why.

    Raises:
        NotReady: without a value that is missing, any guest would pass.
    """
    tee = body.runtime.tee
    reference = {name: dict(found) for name, found in values.items() if name in MEASURED}
    lacks = [f"{section}.{key}: {missing.get(f'{section}.{key}') or missing.get(section) or 'not computed'}"
             for section in ({tee} & TEES or reference.keys()) for key in MEASURED[section]
             if not reference.get(section, {}).get(key)]
    if tee != NONE and not body.tls.on:
        lacks.append("spec.tls: without TLS there is no key that evidence could be bound to")
    if lacks:
        raise NotReady(f"{path}: no policy can be written, since any guest would pass", details=lacks,
                       hint="write the missing values by hand, as docs/attestation.md shows")
    what = f"a launch in a TEE ({tee})" if tee != NONE else "a launch without a TEE: its host is not kept out"
    loose = "" if tee != NONE else "allow_unconfidential: true\n"
    # Of a TPM beside a TEE nothing is asked: a server shows one kind of evidence.
    kept = {name: found for name, found in reference.items() if tee == NONE or name == tee}
    given = body.resources.accelerators
    gpus = GPUS.format(len(given.bdf) or given.count) if tee != NONE and (given.bdf or given.count) else ""
    shown = yaml.safe_dump({"reference": kept}, sort_keys=False) if kept else ""
    held = HELD if tee != NONE and not body.tls.in_guest else ""
    remarks = f"{CA if body.tls.source == 'ca' else ''}{gpus}"
    return f"# Of {printable(path.name)}, {what}.\n{held}{HEAD}{loose}{remarks}{shown}"
