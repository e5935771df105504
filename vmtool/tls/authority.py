"""vmtool's own CA, made on first use, and what it signs: P-256, X.509 by cryptography.

Its key stays on this host, of mode 0600. Leaves live for `LEAF_DAYS`, are dated back a little for clocks that differ,
and are renewed once two thirds of their time are over.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vmtool.errors import NotReady, VmtoolError
from vmtool.frozen import dataclass
from vmtool.machine import Host

CA_DAYS, LEAF_DAYS = 3650, 90
BACK = datetime.timedelta(minutes=5)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Authority:
    """The CA, read into memory."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, names: Sequence[str], now: datetime.datetime, *, client: bool = False,
              days: float = LEAF_DAYS) -> Pair:
        """A leaf for a server of these DNS names and IP addresses, or for a client.

        Raises:
            NotReady: the CA has ended, or has not begun by this host's clock.
        """
        if not self.certificate.not_valid_before_utc <= now < self.certificate.not_valid_after_utc:
            begin, end = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
            raise NotReady(f"vmtool's CA is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, and this host's clock says "
                           f"{now:%Y-%m-%d}",
                           hint="set the clock: timedatectl set-ntp true")
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(now + datetime.timedelta(days=days), self.certificate.not_valid_after_utc)
        begun = max(now - BACK, self.certificate.not_valid_before_utc)
        builder = (
            _builder(_name(names[0]), self.certificate.subject, key.public_key(), begun, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([CLIENT if client else SERVER]), critical=False)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False))
        return Pair(_pem(builder.sign(self.key, hashes.SHA256())), _key_pem(key))


def read_authority(host: Host, directory: Path, now: datetime.datetime) -> Authority:
    """The CA of a directory; made when there is none yet. Held under the host's lock, or two could be made.

    Raises:
        VmtoolError: its files are damaged, or one of them is missing.
    """
    found = find_authority(host, directory)
    if found is None:
        found = make_authority(now)
        host.make_dir(directory)
        # The key first: a certificate that is there has a key.
        host.write(directory / "ca.key", _key_pem(found.key))
        host.write(certificate_path(directory), _pem(found.certificate))
    return found


def find_authority(host: Host, directory: Path) -> Authority | None:
    """The CA of a directory; None when there is none yet.

    Raises:
        VmtoolError: as `read_authority`.
    """
    paths = certificate_path(directory), directory / "ca.key"
    if not any(_is_there(host, path) for path in paths):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(host.read(paths[0]))
        key = serialization.load_pem_private_key(host.read(paths[1]), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("the key is not the certificate's")
    except (OSError, ValueError, TypeError) as error:
        raise VmtoolError(f"vmtool's CA in {directory} is damaged: {error}", hint="restore both files from a backup; "
                          f"without one, a new CA is made once they are gone: rm -r {directory}") from error
    return Authority(certificate, key)


def certificate_path(directory: Path) -> Path:
    """Where a CA's certificate is: for those who shall trust it."""
    return directory / "ca.pem"


def general_name(name: str) -> x509.GeneralName:
    """A name as certificates have it: an IP address, or a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _is_there(host: Host, path: Path) -> bool:
    """By reading it: what cannot be read is never made again."""
    try:
        host.read(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def make_authority(now: datetime.datetime) -> Authority:
    """A new CA, in memory alone."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("vmtool's CA")
    end = now + datetime.timedelta(days=CA_DAYS)
    certificate = (
        _builder(name, name, key.public_key(), now - BACK, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256()))
    return Authority(certificate, key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime.datetime,
             end: datetime.datetime) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begin, end)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature=digital_signature, content_commitment=False, key_encipherment=False,
                         data_encipherment=False, key_agreement=False, key_cert_sign=key_cert_sign,
                         crl_sign=key_cert_sign, encipher_only=False, decipher_only=False)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())
