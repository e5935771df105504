"""The header of an encrypted safetensors file (cryptotensors' version 2), and every rule that it has to keep.

A header is compact JSON: `__metadata__` first, its keys sorted, then the tensors in the order of their bytes; blanks
fill it up to eight bytes. The signature covers this text without `__signature__`. So that nothing can hide in another
spelling, a header is accepted only when writing what was read gives the same bytes again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import ALGORITHMS, KID, decode, encode, strict_json

# safetensors' own limit, in bytes.
MAX_HEADER = 100_000_000
CHUNK = 2 << 20
MAX_CHUNK = 64 << 20
IV, TAG, SIGNATURE = 12, 16, 64
# The one policy that everybody satisfies: rules of others are not evaluated here, so they are refused.
POLICY = json.dumps(dict.fromkeys(("local", "remote"), "package model\nallow = true"), separators=(",", ":"))
# Bits of an element (safetensors 0.8).
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
        "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4,
        "F6_E2M3": 6, "F6_E3M2": 6}
RESERVED = ("__crypto_keys__", "__encryption__", "__policy__", "__signature__")
_SECRETS = {"wrapped_key": None, "key_iv": IV, "key_tag": TAG, "base_iv": IV, "tags": None}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is.

    Args:
        start, end: bytes from the end of the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Encrypted:
    """How a tensor is encrypted: its own key, wrapped by the master key, and a tag of 16 bytes for each chunk."""

    wrapped_key: bytes
    key_iv: bytes
    key_tag: bytes
    base_iv: bytes
    tags: bytes


@dataclass(frozen=True)
class Header:
    """A header that keeps every rule.

    Args:
        enc_kid, sign_kid: names of the master key and the signer; empty when the file gives none.
        encrypted: by a tensor's name.
        metadata: what the model's author wrote there, such as format.
    """

    algorithm: str
    enc_kid: str
    sign_kid: str
    chunk: int
    tensors: tuple[Tensor, ...]
    encrypted: Mapping[str, Encrypted]
    metadata: Mapping[str, str]
    signature: bytes = b""

    @property
    def data_size(self) -> int:
        return self.tensors[-1].end if self.tensors else 0

    def signed_text(self) -> bytes:
        """The bytes that the signature is of."""
        return _text(self._metadata(), self.tensors)

    def text(self) -> bytes:
        """The header as it is in a file, after its length."""
        return _padded(_text(self._metadata() | {"__signature__": encode(self.signature)}, self.tensors))

    def _metadata(self) -> dict[str, str]:
        keys = {"chunk_size": self.chunk, "enc": _key(self.algorithm, self.enc_kid, "oct"),
                "sign": _key("ed25519", self.sign_kid, "okp"), "version": "2"}
        secrets = {name: {key: encode(getattr(each, key)) for key in _SECRETS}
                   for name, each in sorted(self.encrypted.items())}
        return dict(self.metadata) | {"__crypto_keys__": _compact(keys), "__encryption__": _compact(secrets),
                                      "__policy__": POLICY}


def chunks(size: int, chunk: int) -> int:
    """How many chunks a tensor of so many bytes has; an empty one has one, which is empty."""
    return max(1, -(-size // chunk))


def parse_plain(text: bytes, size: int) -> tuple[tuple[Tensor, ...], dict[str, str]]:
    """The tensors in the order of their bytes, and the metadata, of any safetensors header.

    Args:
        text: the header, without its length.
        size: bytes that follow it.

    Raises:
        Untrusted: it breaks a rule of the format, or does not account for every byte.
    """
    values = strict_json(text, "the header")
    if not isinstance(values, dict):
        raise Untrusted("the header is not an object")
    metadata = values.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Untrusted("the header's metadata are not texts")
    tensors = sorted((_tensor(name, each) for name, each in values.items()), key=lambda each: (each.start, each.end))
    place = 0
    for tensor in tensors:
        if tensor.start != place:
            raise Untrusted(f"tensor {tensor.name[:80]!r}: its bytes do not follow those of the one before")
        place = tensor.end
    if place != size:
        raise Untrusted(f"the file has {size} bytes of tensors, and its header accounts for {place}")
    return tuple(tensors), metadata


def parse(text: bytes, size: int) -> Header:
    """An encrypted file's header. Its signature is not checked here.

    Args:
        text: the header, without its length.
        size: bytes that follow it.

    Raises:
        Untrusted: it is not encrypted as a whole, or breaks any other rule.
    """
    tensors, metadata = parse_plain(text, size)
    if missing := [name for name in RESERVED if name not in metadata]:
        raise Untrusted(f"not an encrypted file: its header has no {missing[0]}")
    keys = _object(metadata["__crypto_keys__"], "__crypto_keys__")
    if keys.get("version") != "2" or metadata["__policy__"] != POLICY:
        raise Untrusted("another version of the format than 2, or a policy that vmtool does not evaluate")
    chunk, algorithm = keys.get("chunk_size"), _part(keys, "enc").get("alg")
    if type(chunk) is not int or not 1 <= chunk <= MAX_CHUNK or not isinstance(algorithm, str) or (
            algorithm not in ALGORITHMS):
        raise Untrusted("an unknown algorithm, or chunks of a size that is not one")
    secrets = _object(metadata["__encryption__"], "__encryption__")
    if set(secrets) != {tensor.name for tensor in tensors} or not tensors:
        raise Untrusted("not every tensor is encrypted")
    header = Header(
        algorithm, _kid(keys, "enc"), _kid(keys, "sign"), chunk, tensors,
        {tensor.name: _encrypted(secrets[tensor.name], tensor, algorithm, chunk) for tensor in tensors},
        {name: value for name, value in metadata.items() if name not in RESERVED},
        decode(metadata["__signature__"], SIGNATURE, "__signature__"))
    if header.text() != text:
        raise Untrusted("the header is spelled in another way than cryptotensors does")
    return header


def _tensor(name: str, values: Any) -> Tensor:
    where = f"tensor {name[:80]!r}"
    if not isinstance(values, dict) or set(values) != {"dtype", "shape", "data_offsets"}:
        raise Untrusted(f"{where}: it has dtype, shape and data_offsets, and nothing else")
    shape, offsets = values["shape"], values["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(each) is int and 0 <= each < 1 << 63 for each in numbers):
            raise Untrusted(f"{where}: a number in it is not one")
    bits = BITS.get(values["dtype"]) if isinstance(values["dtype"], str) else None
    if bits is None or len(offsets) != 2 or len(shape) > 16:
        raise Untrusted(f"{where}: of an unknown type, or without a beginning and an end")
    for number in shape:
        bits *= number
    if offsets[1] - offsets[0] != bits / 8 if bits < 1 << 50 else (offsets[1] - offsets[0]) * 8 != bits:
        raise Untrusted(f"{where}: its shape has another size than its bytes")
    return Tensor(name, values["dtype"], tuple(shape), offsets[0], offsets[1])


def _encrypted(values: Any, tensor: Tensor, algorithm: str, chunk: int) -> Encrypted:
    where = f"tensor {tensor.name[:80]!r}"
    if not isinstance(values, dict) or set(values) != set(_SECRETS):
        raise Untrusted(f"{where}: it has {', '.join(_SECRETS)}, and nothing else")
    lengths = _SECRETS | {"wrapped_key": ALGORITHMS[algorithm], "tags": TAG * chunks(tensor.size, chunk)}
    found = {key: decode(values[key], length or 0, f"{where}: {key}") for key, length in lengths.items()}
    if int.from_bytes(found["base_iv"][8:]) + chunks(tensor.size, chunk) > 1 << 32:
        raise Untrusted(f"{where}: its counter would wrap around")
    return Encrypted(**found)


def _object(text: str, what: str) -> dict[str, Any]:
    found = strict_json(text, what)
    if not isinstance(found, dict):
        raise Untrusted(f"{what} is not an object")
    return found


def _part(keys: dict[str, Any], name: str) -> dict[str, Any]:
    """`jku` is among what is refused: it names a file or address that a key would be read from."""
    part = keys.get(name)
    if not isinstance(part, dict) or set(part) - {"alg", "kid", "kty"}:
        raise Untrusted(f"__crypto_keys__: {name} has alg, kid and kty, and nothing else")
    return part


def _kid(keys: dict[str, Any], name: str) -> str:
    kid = _part(keys, name).get("kid", "")
    if kid and not (isinstance(kid, str) and KID.fullmatch(kid)):
        raise Untrusted(f"__crypto_keys__: the kid of {name} has characters that do not belong there")
    return str(kid)


def _key(algorithm: str, kid: str, kty: str) -> dict[str, str]:
    return {"alg": algorithm} | ({"kid": kid} if kid else {}) | {"kty": kty}


def _text(metadata: Mapping[str, str], tensors: Iterable[Tensor]) -> bytes:
    values: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    values |= {each.name: {"dtype": each.dtype, "shape": list(each.shape), "data_offsets": [each.start, each.end]}
               for each in tensors}
    return _compact(values).encode()


def _compact(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def _padded(text: bytes) -> bytes:
    return text + b" " * (-len(text) % 8)
