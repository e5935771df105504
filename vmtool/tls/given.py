"""Certificates that a person gives as files: read whole, once, and found fit or refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from vmtool.frozen import dataclass

MOST_BYTES = 256 << 10
MOST = 20
LEAST_RSA = 2048
Reader = Callable[[], bytes]


@dataclass(frozen=True)
class Given:
    """A certificate with what leads to its CA, and its key; as DER."""

    chain: tuple[x509.Certificate, ...]
    key: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def read_pair(certificate: Reader, key: Reader, now: datetime.datetime) -> Given:
    """The pair. A certificate that changes while it is read does not fit, so both are read once more.

    Raises:
        ValueError: they do not fit, or are of no use now.
        OSError: one cannot be read.
    """
    for attempt in range(3):
        chain, private = read_certificates(certificate()), _key(key())
        if private.public_key() == chain[0].public_key():
            break
        if attempt == 2:
            raise ValueError("the key is not the certificate's: they do not belong together")
    check_dates(chain[0], now)
    _check_server(chain[0])
    return Given(chain, private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))


def read_certificates(text: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file.

    Raises:
        ValueError: there is none, there are too many, or one is damaged.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES >> 10} KiB")
    try:
        found = tuple(x509.load_pem_x509_certificates(text))
    except ValueError:
        raise ValueError("is no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
    if len(found) > MOST:
        raise ValueError(f"has more than {MOST} certificates")
    return found


def check_dates(leaf: x509.Certificate, now: datetime.datetime) -> None:
    """Raise ValueError unless the certificate is valid now."""
    if now >= leaf.not_valid_after_utc:
        raise ValueError(f"the certificate ended on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < leaf.not_valid_before_utc:
        raise ValueError(f"the certificate begins on {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only")


def _check_server(leaf: x509.Certificate) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise ValueError("the certificate is not for servers (extended key usage)")


def _key(text: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    try:
        key = load_pem_private_key(text[:MOST_BYTES], None)
    except TypeError:
        raise ValueError("the key is encrypted: give one without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the key is no private key in PEM form") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < LEAST_RSA:
        raise ValueError(f"the key is RSA of {key.key_size} bits, and clients want {LEAST_RSA}")
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError("the key is neither ECDSA nor RSA nor Ed25519")
    return key
