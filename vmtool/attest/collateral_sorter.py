"""Which kind of collateral a file is, by its content."""

from __future__ import annotations

from cryptography import x509

from vmtool.attest.certificates import PEM, PEM_CRL, load_certificates, load_crl
from vmtool.attest.snp.certificate_table import is_table, read_table
from vmtool.attest.tdx.collateral import read_collateral


class Sorter:
    """What was found so far."""

    def __init__(self) -> None:
        self.certificates: list[x509.Certificate] = []
        self.crls: list[x509.CertificateRevocationList] = []
        self.tdx: list[str] = []
        self.rims: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Put one file where it belongs."""
        start = data.lstrip()[:1]
        if is_table(data):
            for kind, item in read_table(data):
                (self.certificates.extend(load_certificates(item)) if kind == "certificate"
                 else self.crls.append(load_crl(item)))
        elif start == b"{":
            read_collateral(text := data.decode())
            self.tdx.append(text)
        elif start == b"<":
            self.rims.append(data)
        elif PEM_CRL in data:
            self.crls.append(load_crl(data))
        elif PEM in data:
            self.certificates += load_certificates(data)
        else:
            self._der(data)

    def _der(self, data: bytes) -> None:
        try:
            self.certificates += load_certificates(data)
        except ValueError as error:
            try:
                self.crls.append(load_crl(data))
            except ValueError:
                raise error from None
