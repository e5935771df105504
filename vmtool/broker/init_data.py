"""Init data: what a host gives its guest, in TOML, and the guest's evidence is bound to by its digest.

vmtool looks into its file `vmtool.toml`, in which the guest's owner names the model and who signed it:

    version = "0.1.0"
    algorithm = "sha384"
    [data]
    "vmtool.toml" = '''
    model = "llama"
    signer = "signer-0123456789abcdef"
    '''
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from vmtool.foreign import parse_toml
from vmtool.frozen import dataclass
from vmtool.serving.cryptotensors.errors import Untrusted

FILE = "vmtool.toml"
ALGORITHMS = ("sha256", "sha384", "sha512")
MOST = 256 << 10


@dataclass(frozen=True)
class InitData:
    """The text's digest, and what vmtool's own file in it says.

    Attributes:
        PLACES: where evidence has the digest, by its kind: the reference's key, and its bytes.
    """

    digest: bytes
    values: Mapping[str, str]

    PLACES: ClassVar[Mapping[str, tuple[str, int]]] = {
        "snp": ("host_data", 32), "tdx": ("mrconfigid", 48), "cca": ("personalization", 64),
        "virtcca": ("personalization", 64)}


def read_init_data(value: Any) -> InitData | None:
    """The `init-data` of a request; None when it has none.

    Raises:
        Untrusted: it is of another form.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"format", "body"} or value["format"] != "toml" or not (
            isinstance(value["body"], str) and len(value["body"]) <= MOST):
        raise Untrusted("init-data has format, which is toml, and body")
    body = value["body"]
    tables = parse_toml(body)
    algorithm, data = tables.get("algorithm"), tables.get("data", {})
    if algorithm not in ALGORITHMS or not isinstance(data, dict):
        raise Untrusted(f"init-data is no TOML, or its algorithm is none of {', '.join(ALGORITHMS)}")
    try:
        digest = hashlib.new(str(algorithm), body.encode()).digest()
    except UnicodeEncodeError:
        raise Untrusted("init-data is no text") from None
    own = parse_toml(data[FILE]) if isinstance(data.get(FILE), str) else {}
    return InitData(digest, {name: word for name, word in own.items() if isinstance(word, str)})
