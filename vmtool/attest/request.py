"""What evidence is appraised against: roots of trust, collateral, reference values, a nonce and a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from vmtool.attest.appraisal import Check, NotChecked, NotRequested, compare_padded
from vmtool.attest.cursor import require
from vmtool.attest.reference import NO_REFERENCE, Reference
from vmtool.frozen import dataclass

if TYPE_CHECKING:  # a bundle without evidence is verified without it
    from cryptography import x509

CERTIFICATE_FILES, KEY_FILES = (".pem",), (".jwk", ".json")


@dataclass(frozen=True)
class Roots:
    """Certificates and keys that are trusted.

    Args:
        files: their content, by name, such as "amd-milan.pem".
    """

    files: Mapping[str, bytes]

    def certificates(self, prefix: str) -> tuple[x509.Certificate, ...]:
        """All of the files whose names begin so.

        Raises:
            NotChecked: there are none.
        """
        from vmtool.attest.certificates import load_certificates

        files = [data for name, data in self.files.items()
                 if name.startswith(prefix) and name.endswith(CERTIFICATE_FILES)]
        if not files:
            raise NotChecked(f"no roots of trust are named {prefix}*.pem: --roots DIR")
        return tuple(certificate for data in files for certificate in load_certificates(data))

    def keys(self, prefix: str) -> dict[str, bytes]:
        """The files with JWKs whose names begin so.

        Raises:
            NotChecked: there are none.
        """
        found = {name: data for name, data in self.files.items() if name.startswith(prefix)
                 and name.endswith(KEY_FILES)}
        if not found:
            raise NotChecked(f"no keys are named {prefix}*.jwk: --roots DIR")
        return found


@dataclass(frozen=True)
class Collateral:
    """What comes from elsewhere and is checked against the roots: nothing of it is trusted by itself.

    Args:
        problems: files that are none of these.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    tdx: tuple[str, ...] = ()
    rims: tuple[bytes, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """All of it.

    Args:
        nonce: that the evidence must have; None when the caller made none.
        at: the time for which certificates and collateral must be valid.
        challenge: that a TPM must have answered, as it was kept; None when it was not asked.
        beside: kinds of evidence that the collateral is for as well, whether they are shown with this one or not.
    """

    roots: Roots
    at: datetime
    collateral: Collateral = Collateral()
    reference: Reference = NO_REFERENCE
    nonce: bytes | None = None
    challenge: bytes | None = None
    beside: frozenset[str] = frozenset()

    def fresh(self, what: str, found: bytes) -> str:
        """The nonce is in the evidence, zeros after it.

        Raises:
            NotRequested: there is none to compare with.
            NotProven: it is another.
        """
        if self.nonce is None:
            raise NotRequested(f"{what} is {found.hex()}; no nonce given: --nonce HEX")
        return compare_padded(what, found, self.nonce)

    def chain_checks(self, chain: Callable[[], Sequence[x509.Certificate]]) -> Iterator[Check]:
        """That a chain's certificates are valid at the request's time, and on none of its revocation lists.

        Args:
            chain: gives it; what it raises is the reason of both.
        """
        from vmtool.attest.certificates import verify_dates
        from vmtool.attest.revocation import verify_unrevoked

        yield "dates", lambda: verify_dates(chain(), self.at)
        yield "revocation", lambda: verify_unrevoked(chain(), self.collateral.crls, self.at)


def require_one_of(what: str, found: bytes, expected: Sequence[bytes]) -> str:
    """The value, which must be one of those expected.

    Raises:
        NotRequested: none is.
        NotProven: it is another.
    """
    if not expected:
        raise NotRequested(f"{found.hex()}; nothing to compare with: --reference")
    require(found in expected, f"{what} is {found.hex()}, expected {' or '.join(value.hex() for value in expected)}")
    return found.hex()


