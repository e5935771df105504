"""Init data (Trustee, kbs/docs/initdata.md): a text that the host gives a guest when it is made, and to whose digest
the TEE binds the guest's evidence. vmtool's own file in it says whose model the guest is for.

    version = "0.1.0"
    algorithm = "sha384"
    [data]
    "vmtool.toml" = '''
    model = "llama"
    signer = "signer-0123456789abcdef"
    '''
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping

FILE, ALGORITHM = "vmtool.toml", "sha384"
# Where evidence has the digest, by its kind: the reference's key, and its bytes.
PLACES: Mapping[str, tuple[str, int]] = {
    "snp": ("host_data", 32), "tdx": ("mrconfigid", 48), "cca": ("personalization", 64),
    "virtcca": ("personalization", 64)}
# By which Kata's shim takes it, where its configuration has that word in enable_annotations.
ALLOWS_INIT_DATA = "cc_init_data"
ANNOTATION = f"io.katacontainers.config.hypervisor.{ALLOWS_INIT_DATA}"


def init_data_text(model: str, signer: str) -> str:
    """The same names give the same bytes.

    Args:
        model, signer: names without quotes and line breaks, as the spec and keys have them.
    """
    return (f'version = "0.1.0"\nalgorithm = "{ALGORITHM}"\n[data]\n"{FILE}" = \'\'\'\nmodel = "{model}"\n'
            f'signer = "{signer}"\n\'\'\'\n')


def fitted(digest: bytes, size: int) -> bytes:
    """As evidence has it: cut, or filled with zeros."""
    return digest[:size].ljust(size, b"\0")


def init_data_value(text: str, tee: str) -> bytes:
    """What evidence of a TEE has in its place for it; zeros without one."""
    digest = hashlib.new(ALGORITHM, text.encode()).digest() if text else b""
    return fitted(digest, PLACES[tee][1])


def init_data_annotation(text: str) -> str:
    """The annotation's value, the same each time."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
