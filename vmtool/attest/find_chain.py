"""Following issuers' names from a certificate to a root that is trusted."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from vmtool.attest.certificates import common_name
from vmtool.attest.cursor import require

LONGEST = 6


def find_path(leaf: x509.Certificate, presented: Sequence[x509.Certificate],
              trusted: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The certificates from the leaf to a self-signed one that is trusted. Their signatures are not verified here.

    A trusted certificate that is not self-signed is an intermediate like a presented one.

    Raises:
        NotProven: none leads there, or several have the name of an issuer.
    """
    roots = {item for item in trusted if item.subject == item.issuer}
    pool = {item for item in (*presented, *trusted) if item.subject != item.issuer}
    chain = [leaf]
    while len(chain) <= LONGEST:
        name = chain[-1].issuer
        found = {item for item in roots if item.subject == name} or {item for item in pool if item.subject == name}
        require(len(found) == 1, f"{len(found)} certificates are of the issuer of {common_name(chain[-1])}, not one")
        chain.append(found.pop())
        if chain[-1] in roots:
            return tuple(chain)
    require(False, f"the chain of {common_name(leaf)} is longer than {LONGEST}")
    raise ValueError
