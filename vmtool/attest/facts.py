"""Reading what evidence is verified with: files that a person names, and the roots that come with vmtool."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vmtool.attest.bundle_form import MOST_BYTES, is_bundle
from vmtool.attest.request import CERTIFICATE_FILES, KEY_FILES, Roots
from vmtool.errors import Refused, VmtoolError, shell_word
from vmtool.foreign import read_regular
from vmtool.machine import Reader

MAX_BYTES = 8 << 20
START = 512
MOST_ROOTS = 64
ROOTS = Path(__file__).with_name("roots")
# SHA-256 of each file of `roots/`: the certificates that AMD, Intel and NVIDIA publish.
DIGESTS = {
    "amd-genoa.pem": "7397ae50f4bac4699393121cf7ce9e72bac49f9f7b8c524be8df97e59ca151e3",
    "amd-milan.pem": "cc871f0d2294176386175d9b5b962e18556b15ec13f55f8698b5f7a07aebf0c7",
    "amd-turin.pem": "34251ef16c414387e2bf36a69b675329156361e6e8113241209e46ebbd6da93f",
    "intel-sgx.pem": "7d4e649fc0951bdd240240b83f59a41cd53015b331dc6264dfc0d07af3fcdfea",
    "nvidia-device.pem": "5f6ce25ce0374fff3d28b85812d1d902a0c2680e2e3c2aa36e67f7d83f1a543d",
    "nvidia-rim.pem": "a02d042fcb64b4b753fcfb574ad06ccc4687aede653df8fb3000185a0e242aee",
}


def read_file(reader: Reader, path: Path, most: int = MAX_BYTES) -> bytes:
    """A file's content; of an empty one nothing, which whoever checks it refuses.

    Raises:
        Refused: it is absent, no regular file, or too large.
    """
    piece = reader.piece(str(path), 0, most + 1)
    if piece is None:
        raise Refused(f"{path}: no such file")
    if piece.size and not piece.data:
        raise Refused(f"{path}: unreadable or not a regular file", hint=f"ls -l {shell_word(path)}")
    if not piece.data:
        return read_regular(path, 0)  # a pipe has no size either, and is refused there
    if len(piece.data) > most:
        raise Refused(f"{path}: larger than {most >> 20} MiB")
    return piece.data


def read_evidence(reader: Reader, path: Path) -> bytes:
    """A file of evidence, or the bundle of a launch, which may be larger.

    Raises:
        Refused: as `read_file`.
    """
    start = reader.piece(str(path), 0, START)
    return read_file(reader, path, MOST_BYTES if start and is_bundle(start.data) else MAX_BYTES)


def read_files(reader: Reader, paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Several files, with their names."""
    return [(str(path), read_file(reader, path)) for path in paths]


def read_roots(reader: Reader, directory: Path | None) -> Roots:
    """The roots in a directory, or those that come with vmtool.

    Raises:
        Refused: the directory has none.
        VmtoolError: a file of vmtool's own was changed.
    """
    where = directory or ROOTS
    names = [name for name in reader.names(str(where)) if name.endswith(CERTIFICATE_FILES + KEY_FILES)]
    if not names or len(names) > MOST_ROOTS:
        raise Refused(f"{where}: {len(names)} files named *.pem, *.jwk or *.json, not 1 to {MOST_ROOTS}",
                      hint=f"ls {shell_word(where)}; names and content are in docs/attestation.md")
    files = {name: read_file(reader, where / name) for name in names}
    changed = [] if directory else [name for name, data in files.items()
                                    if hashlib.sha256(data).hexdigest() != DIGESTS.get(name)]
    if changed:
        raise VmtoolError(f"{where}: changed since vmtool was installed: {', '.join(changed)}",
                          hint="install vmtool again")
    return Roots(files)
