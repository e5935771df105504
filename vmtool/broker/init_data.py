"""The init data that a guest sends along: its digest must be in the evidence, and vmtool's own file names a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from vmtool.attest.measure.init_data import FILE
from vmtool.foreign import parse_toml
from vmtool.frozen import dataclass
from vmtool.serving.cryptotensors.errors import Untrusted

ALGORITHMS = ("sha256", "sha384", "sha512")
MOST = 256 << 10


@dataclass(frozen=True)
class InitData:
    """The text's digest, and what vmtool's own file in it says."""

    digest: bytes
    values: Mapping[str, str]


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
