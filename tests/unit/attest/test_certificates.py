"""Chains, dates and revocation lists, with certificates made here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from tests.fakes.rsa_keys import rsa_key
from tests.unit.attest import make_der
from tests.unit.attest.cases import NOW, needs_vectors, vector
from tests.unit.attest.make_certificates import Form, Issued, issue, revoke
from vmtool.attest.appraisal import NotChecked, NotProven, NotRequested
from vmtool.attest.certificates import load_certificates, load_crl, require_leaf, verify_chain, verify_dates
from vmtool.attest.revocation import verify_unrevoked as unrevoked

ROOT = issue("root")
CA = issue("ca", ROOT, Form(path_length=0, serial=6))
LEAF = issue("leaf", CA, Form(authority=False, serial=7))


def chain(*issued: Issued) -> tuple[x509.Certificate, ...]:
    return tuple(each.certificate for each in issued)


GOOD = chain(LEAF, CA, ROOT)


def test_a_good_chain() -> None:
    assert verify_chain(GOOD) == "leaf <- ca <- root"
    assert verify_dates(GOOD, NOW).startswith("valid at 2026-11-01")


OTHER_CA = issue("ca", issue("root"))
PLAIN = issue("ca", ROOT, Form(authority=False))
MUTE = issue("ca", ROOT, Form(may_sign=False))
NO_CA_BELOW = issue("between", ROOT, Form(path_length=0))
SECOND = issue("ca", NO_CA_BELOW)
OLD_HASH = issue("leaf", CA, Form(authority=False, hashed=hashes.SHA256()))


@pytest.mark.parametrize(("certificates", "reason"), [
    (chain(LEAF, OTHER_CA, ROOT), "leaf is not signed by ca"),
    (chain(LEAF, CA, issue("root")), "ca is not signed by root"),
    (chain(LEAF, CA), "ca is not signed by ca"),
    (chain(issue("leaf", PLAIN, Form(authority=False)), PLAIN, ROOT), "ca is no certificate authority"),
    (chain(issue("leaf", MUTE, Form(authority=False)), MUTE, ROOT), "ca may not sign certificates"),
    (chain(issue("leaf", SECOND, Form(authority=False)), SECOND, NO_CA_BELOW, ROOT), "between: the chain is too long"),
    (chain(issue("leaf", CA, Form(authority=False, extensions=[("1.2.3", b"\5\0")], critical=True)), CA, ROOT),
     "leaf: unknown critical extension 1.2.3"),
])
def test_a_chain_that_is_refused(certificates: tuple[x509.Certificate, ...], reason: str) -> None:
    with pytest.raises(NotProven, match=f"^{reason}"):
        verify_chain(certificates)


def test_a_leaf_must_not_be_an_authority() -> None:
    require_leaf(LEAF.certificate)
    with pytest.raises(NotProven, match="ca is a certificate authority"):
        require_leaf(CA.certificate)


@pytest.mark.parametrize("days", [-31, 31])
def test_a_certificate_of_another_time(days: int) -> None:
    with pytest.raises(NotProven, match="leaf is valid from"):
        verify_dates(GOOD, NOW + timedelta(days=days))


def test_a_current_list_without_the_certificate_proves_it() -> None:
    lists = [load_crl(revoke(CA, 1, 2)), load_crl(revoke(ROOT))]
    assert unrevoked(GOOD, lists, NOW) == ", ".join(
        f"{name} is not revoked as of 3 days ago" for name in ("leaf", "ca", "root"))


@pytest.mark.parametrize(("crl", "reason"), [
    (revoke(CA, 7), "leaf is revoked"),
    (revoke(ROOT, 6), "ca is revoked"),
    (revoke(CA, signer=ROOT), "not signed by ca"),
    (revoke(CA, first=NOW + timedelta(days=1)), "from the future"),
    (revoke(CA, last=NOW - timedelta(days=1)), "has expired"),
])
def test_a_list_that_refuses(crl: bytes, reason: str) -> None:
    with pytest.raises(NotProven, match=reason):
        unrevoked(GOOD, [load_crl(crl)], NOW)


def partial(oid: x509.ObjectIdentifier, value: bytes, *, critical: bool) -> bytes:
    """A list of the CA's that says of itself to be of a part of the certificates."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(CA.certificate.subject).last_update(
        NOW - timedelta(days=3)).next_update(NOW + timedelta(days=3)).add_extension(
            x509.UnrecognizedExtension(oid, value), critical)
    return builder.sign(CA.key, hashes.SHA384()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("oid", [ExtensionOID.DELTA_CRL_INDICATOR, x509.ObjectIdentifier("1.2.3")])
def test_a_list_of_a_part_of_the_certificates_proves_nothing(oid: x509.ObjectIdentifier) -> None:
    with pytest.raises(NotProven, match="not of all its certificates"):
        unrevoked(GOOD, [load_crl(partial(oid, b"\2\1\1", critical=True))], NOW)


def test_a_list_of_users_certificates_alone_proves_nothing() -> None:
    scope = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    builder = x509.CertificateRevocationListBuilder().issuer_name(CA.certificate.subject).last_update(
        NOW - timedelta(days=3)).next_update(NOW + timedelta(days=3)).add_extension(scope, critical=True)
    crl = load_crl(builder.sign(CA.key, hashes.SHA384()).public_bytes(Encoding.DER))
    with pytest.raises(NotProven, match=r"not of all its certificates: 2\.5\.29\.28"):
        unrevoked(GOOD, [crl], NOW)


def test_an_issuer_that_may_not_sign_lists() -> None:
    ca = issue("ca", ROOT, Form(may_list=False))
    leaf = issue("leaf", ca, Form(authority=False))
    with pytest.raises(NotProven, match="ca may not sign revocation lists"):
        unrevoked(chain(leaf, ca, ROOT), [load_crl(revoke(ca))], NOW)


RSA_ROOT = issue("root", key=rsa_key(2048))


def with_even_end(make: Callable[[], bytes]) -> bytes:
    """Such bytes whose last bit is 0: all but the count of its bits is the same when it does not count."""
    return next(data for data in iter(make, None) if data and not data[-1] & 1)


@pytest.mark.parametrize("root", [ROOT, RSA_ROOT], ids=["ecdsa", "rsa"])
def test_a_list_in_another_encoding_is_refused(root: Issued) -> None:
    data = with_even_end(lambda: revoke(root, 7))
    unrevoked(chain(root), [load_crl(data)], NOW)
    [node] = make_der.read(data)
    assert make_der.write(node) == data
    forms = list(make_der.variants(node))
    assert len(forms) > 70
    for form in forms:
        with pytest.raises((ValueError, NotProven)):
            unrevoked(chain(root), [load_crl(form)], NOW)


@pytest.mark.parametrize("root", [ROOT, RSA_ROOT], ids=["ecdsa", "rsa"])
def test_a_certificate_in_another_encoding_is_refused(root: Issued) -> None:
    def leaf() -> Issued:
        return issue("leaf", root, Form(authority=False))

    data = with_even_end(lambda: leaf().der)
    verify_chain((*load_certificates(data), root.certificate))
    [node] = make_der.read(data)
    for form in make_der.variants(node):
        with pytest.raises((ValueError, NotProven)):
            verify_chain((*load_certificates(form), root.certificate))


def test_no_list_is_no_proof() -> None:
    with pytest.raises(NotRequested):
        unrevoked(GOOD, [], NOW)
    with pytest.raises(NotChecked, match="other issuers"):
        unrevoked(GOOD, [load_crl(revoke(issue("stranger")))], NOW)


@needs_vectors
@pytest.mark.filterwarnings("error")
def test_a_vcek_with_its_serial_number_0_is_loaded() -> None:
    """Later releases of cryptography are announced to refuse it: this is why it is pinned."""
    [vcek] = load_certificates(vector("snp/milan-vcek.der"))
    with pytest.warns(UserWarning, match="wasn't positive"):
        assert vcek.serial_number == 0


def test_a_text_with_a_damaged_certificate_is_refused() -> None:
    assert load_certificates(b"\n" + ROOT.pem + b"\r\n" + CA.pem.replace(b"\n", b"\r\n")) == chain(ROOT, CA)
    for damaged in (ROOT.pem + CA.pem.replace(b"CERTIFICATE", b"CERTIFICATD"), ROOT.pem + b"\0", b"x" + ROOT.pem,
                    ROOT.pem + b"MII", ROOT.pem + CA.pem[:-9], ROOT.pem.replace(b"\n", b"\x0b"), ROOT.pem + b"-----"):
        with pytest.raises(NotProven, match="damaged"):
            load_certificates(damaged)


@needs_vectors
def test_the_bits_of_a_signature_are_whole_bytes() -> None:
    """Where the last one is zero, DER may say that it is not there; a verifier sees no difference."""
    vlek = vector("snp/milan-vlek.der")
    [certificate] = load_certificates(vlek)
    place = len(vlek) - len(certificate.signature) - 1
    with pytest.raises(NotProven, match="a part of a byte"):
        load_certificates(vlek[:place] + b"\1" + vlek[place + 1:])


def test_a_text_with_endless_certificates_is_refused() -> None:
    with pytest.raises(NotProven, match="occurs twice"):
        load_certificates(ROOT.pem * 64)
    with pytest.raises(NotProven, match="more than 64"):
        load_certificates(ROOT.pem * 65)
