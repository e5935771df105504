"""The collector of TPM quotes against real TPM code, Debian's swtpm, up to the verifier."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tee_guest import FakeGuest
from tests.integration.connect.running import until
from tests.unit.attest.cases import is_accepted, request, unproven
from vmtool.attest.tpm.structures import parse_public
from vmtool.serving.evidence.collect import collect
from vmtool.serving.evidence.guest import NotCollected

BOUND = bytes(range(32))


@contextlib.contextmanager
def swtpm(directory: Path, *more: str) -> Iterator[FakeGuest]:
    """A guest whose TPM is this one; its socket takes commands as /dev/tpmrm0 does."""
    path = directory / "socket"
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}", "--server", f"type=unixio,path={path}",
            "--ctrl", f"type=unixio,path={path}.ctrl", "--flags", "not-need-init,startup-clear", *more]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(path.exists, "swtpm does not listen")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(str(path))

                def ask(command: bytes) -> bytes:
                    connection.sendall(command)
                    return connection.recv(4096)

                yield FakeGuest(tpm=ask)
        finally:
            process.kill()


def test_a_quote_of_a_real_tpm_is_proven_with_its_enrolled_key(tmp_path: Path) -> None:
    with swtpm(tmp_path) as guest:
        found, again = collect(BOUND, guest), collect(BOUND, guest)
    assert found and again and found.kind == "tpm"
    parts = json.loads(found.evidence)
    assert json.loads(again.evidence)["ak_public"] == parts["ak_public"], "the key is not always the same"
    assert set(parts["pcrs"]["sha256"]) == {str(number) for number in range(16)}
    name = parse_public(base64.b64decode(parts["ak_public"])).name.hex()
    values = {"keys": [name], "pcrs": {"sha256": {"4": parts["pcrs"]["sha256"]["4"]}}}
    assert is_accepted(found.evidence, request(nonce=BOUND, tpm=values))
    assert unproven(found.evidence, request(nonce=bytes(32), tpm=values)) == ["tpm.freshness"]
    assert unproven(found.evidence, request(nonce=BOUND, tpm={"keys": ["00"], "pcrs": values["pcrs"]})) == [
        "tpm.key-binding"]


def test_a_tpm_that_is_not_started_gives_nothing(tmp_path: Path) -> None:
    with swtpm(tmp_path, "--flags", "not-need-init") as guest, pytest.raises(NotCollected, match="fails with 0x100"):
        collect(BOUND, guest)
