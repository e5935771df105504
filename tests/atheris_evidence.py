"""Coverage-guided fuzzing of all that reads foreign evidence: no crash, and nothing is accepted.

    python -m tests.atheris_evidence CORPUS -max_total_time=60       options are libFuzzer's

A program of its own, since Atheris never returns; `tests/integration/test_fuzz_evidence.py` runs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vmtool.attest", "vmtool.bundle"]):
    from vmtool.attest import cca, nvidia, snp, tdx, tpm  # noqa: F401
    from vmtool.attest.appraisal import NotProven
    from vmtool.attest.cca import claims as cca_claims  # noqa: F401
    from vmtool.attest.nvidia import claims as nvidia_claims  # noqa: F401
    from vmtool.attest.recognise import appraise_file
    from vmtool.attest.snp import claims as snp_claims  # noqa: F401
    from vmtool.attest.tdx import claims as tdx_claims  # noqa: F401
    from vmtool.attest.tpm import claims as tpm_claims  # noqa: F401
    from vmtool.bundle.archive import pack, unpack

from tests.unit.attest.cases import index, request, vector

# No evidence has it, so that nothing may be accepted; but every check is made.
ASKED = request(nonce=b"nobody ever asked with this nonce")


def write_corpus(directory: Path) -> None:
    """Everything genuine, to begin with."""
    for number, entry in enumerate(index("sev-snp", "tdx", "arm-cca", "nvidia", "trustee-evidence", "rim")):
        for name in ("report", "quote", "token", "evidence", "file", "rim"):
            if name in entry:
                (directory / f"{number}").write_bytes(vector(entry[name]))
    (directory / "bundle").write_bytes(pack({"bundle.json": b"{}", "a/b": b"x" * 600}))


def check(data: bytes) -> None:
    """One input."""
    found = appraise_file(data, ASKED)
    if all(each.verified for each in found):
        raise AssertionError("accepted")
    try:
        members = unpack(data)
    except NotProven:
        return
    if pack(members) != data:
        raise AssertionError("another form of an archive")


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
