"""An endpoint that makes its own TLS key: nothing of it is on this disk, and whoever asks knows it all the same."""

from __future__ import annotations

import re

import pytest

from tests.integration.conftest import MakeSpec
from tests.integration.machine import Vmtool

# What an encrypted or plain private key looks like, as text and as DER of PKCS #8 and SEC 1.
PRIVATE = re.compile(rb"PRIVATE KEY|\x30\x81\x87\x02\x01\x00\x30\x13|\x30\x77\x02\x01\x01\x04\x20")


@pytest.mark.usefixtures("untouched")
def test_the_key_is_nowhere_here_and_another_one_at_each_start(vmtool: Vmtool, make_spec: MakeSpec) -> None:
    directory = vmtool.state / "instances" / "ownkey"
    known = directory / "secret" / "tls" / "public.pem"
    launched = vmtool("run", make_spec("ownkey", 18493, tls={"source": "guest"}))
    assert "learn the TLS key that the endpoint has made" in launched.err
    try:
        first = known.read_bytes()
        [claim] = [each for each in vmtool("status", "ownkey", "--json").json["claims"] if each["id"] == "tls.key"]
        assert claim["verdict"] == "not-checked"
        assert "made by the endpoint" in claim["evidence"]
        assert vmtool("chat", "ownkey", "hello").out.strip()
        # A list that is changed while it runs leaves the key as it is.
        vmtool("token", "add", "ci", "ownkey")
        assert known.read_bytes() == first
        assert vmtool("chat", "ownkey", "hello").out.strip()
        assert "not due" in vmtool("ca", "renew", "ownkey").err
        assert "has made its key itself" in vmtool("ca", "renew", "ownkey", "--force", status=1).err
        found = [path for path in directory.rglob("*") if path.is_file() and PRIVATE.search(path.read_bytes())]
        assert not found
        vmtool("stop", "ownkey")
        vmtool("start", "ownkey")
        assert known.read_bytes() != first
        assert vmtool("chat", "ownkey", "hello").out.strip()
    finally:
        vmtool("rm", "--yes", "ownkey")
