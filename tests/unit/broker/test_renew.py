"""A broker that runs for longer than its certificate is good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from tests.unit.broker.cases import write_config
from vmtool.broker.facts import read_release
from vmtool.broker.release import ReleaseRules
from vmtool.broker.serve import RENEWED_EACH, renew
from vmtool.host.local import LocalMachine
from vmtool.serving.access_list import Certificates
from vmtool.serving.front.tls import Tls
from vmtool.tls.authority import LEAF_DAYS, Pair, make_authority

NOW = datetime.now(UTC)
AUTHORITY = make_authority(NOW)


def issue(names: Sequence[str]) -> Pair:
    return AUTHORITY.issue(names, datetime.now(UTC))


def of_ca(directory: Path) -> ReleaseRules:
    tls = {"source": "ca", "names": ["kbs.lab"]}
    return read_release(LocalMachine(), write_config(directory, tls=tls), None, issue)


def of_files(directory: Path) -> ReleaseRules:
    write_pair(directory)
    tls = {"source": "files", "certificate": "b.pem", "key": "b.key"}
    return read_release(LocalMachine(), write_config(directory, tls=tls))


def write_pair(directory: Path) -> None:
    pair = issue(["kbs.lab"])
    (directory / "b.pem").write_bytes(pair.certificate)
    (directory / "b.key").write_bytes(pair.key)


def shown(certificates: Certificates | None) -> x509.Certificate:
    assert certificates
    return x509.load_der_x509_certificate(certificates.chain[0])


def test_one_of_the_ca_is_issued_anew_long_before_it_ends(tmp_path: Path) -> None:
    release = of_ca(tmp_path)
    first, second = shown(release.certificates), shown(release.renewed())
    assert first.serial_number != second.serial_number and first.issuer == second.issuer
    assert timedelta(seconds=RENEWED_EACH) < timedelta(days=LEAF_DAYS) / 10


def test_files_are_read_again(tmp_path: Path) -> None:
    release = of_files(tmp_path)
    assert shown(release.renewed()) == shown(release.certificates)
    write_pair(tmp_path)
    assert shown(release.renewed()) != shown(release.certificates)


def test_what_cannot_be_renewed_stays_and_is_said(tmp_path: Path) -> None:
    release, said = of_files(tmp_path), list[str]()
    assert release.certificates
    tls = Tls(release.certificates)
    before = tls.key
    write_pair(tmp_path)
    asked: list[bytes] = []

    def renewed() -> Certificates | None:
        asked.append(tls.key)
        if len(asked) == 2:
            (tmp_path / "b.key").write_text("damaged")
        return release.renewed()

    class Said(Exception):
        pass

    def say(text: str) -> None:
        said.append(text)
        raise Said

    async def run() -> None:
        try:
            await renew(tls, renewed, say, each=0)
        except Said:
            pass

    asyncio.run(run())
    assert asked[0] == before and asked[1] == tls.key != before, "the second is shown, and stays"
    assert len(said) == 1 and said[0].startswith("the certificate stays as it was: ") and "b.key" not in said[0]
