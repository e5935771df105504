"""What vLLM's loader reads by, without vLLM: a model in clear and encrypted, onto a device, at what rate.

    python -m tests.integration.serving.measure_reader --device cpu|cuda

It needs no root and no containerd, but torch, safetensors, numpy and cryptography. `scripts/bench` calls it too.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROUNDS = 5
WIDE, DEEP, LAYERS = 2048, 5632, 10
Tensors = Iterator[tuple[str, Any]]


def measure_reader(device: str) -> None:
    """Print seconds, CPU seconds and rates of loading 1 GB of bf16 onto the device."""
    import torch
    from safetensors import safe_open

    torch.set_num_threads(1)  # threads that wait for work would be counted as the reader's
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vmtool-bench-") as name:
        root = Path(name)
        plain = root / "plain.safetensors"
        write_weights(plain, shapes(512))
        bundle = encrypted(root, plain)
        size = plain.stat().st_size / 1e9
        print(f"device: {title(torch, device)}; torch {torch.__version__}; {size:.2f} GB, warm page cache", flush=True)

        def clear() -> Tensors:
            with safe_open(plain, "pt", device="cpu") as opened:
                for key in opened.offset_keys():
                    yield key, opened.get_tensor(key)

        kept = {key: torch.empty_like(tensor, device=device) for key, tensor in clear()}
        taken: dict[str, list[tuple[float, float]]] = {"plain": [], "encrypted": []}
        for _ in range(ROUNDS):
            for kind, read in (("plain", clear), ("encrypted", bundle)):
                taken[kind].append(load(torch, device, read(), kept))
        show(taken, size)
        same = all(torch.equal(kept[key].cpu(), tensor) for key, tensor in clear())
        print(f"every tensor on {device} is the plain model's: {'yes' if same else 'NO'}")


def load(torch: Any, device: str, tensors: Tensors, kept: Mapping[str, Any]) -> tuple[float, float]:
    """(seconds, CPU seconds) of copying each tensor into its parameter, which is there, as a loader does."""
    began, spent = time.perf_counter(), time.process_time()
    for key, tensor in tensors:
        kept[key].copy_(tensor)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - spent


def encrypted(root: Path, plain: Path) -> Any:
    """What gives the tensors of the encrypted file; prints what it took to encrypt it."""
    from vmtool.models.encryption.keys import new_master, new_signer
    from vmtool.models.encryption.progress import read_done
    from vmtool.models.workers import encrypt_file
    from vmtool.serving.cryptotensors.jwk import key_text
    from vmtool.serving.cryptotensors.reader import opened
    from vmtool.serving.encrypted.bundle import Bundle, SealedFile
    from vmtool.serving.encrypted.tensors import load_tensors

    master, signer = new_master("aes256gcm"), new_signer()
    for name, key in (("master", master), ("signer", signer)):
        (root / name).touch(mode=0o600)
        (root / name).write_text(key_text(key))
    target, began, spent = root / "sealed.safetensors", time.perf_counter(), time.process_time()
    encrypt_file.run(encrypt_file.Order(plain, target, root / "master", root / "signer"), None)  # type: ignore[arg-type]
    wall, cpu, size = time.perf_counter() - began, time.process_time() - spent, plain.stat().st_size / 1e9
    print(f"encrypted: {wall:.2f} s, {cpu / size:.2f} CPU s per GB (wanted 2), peak memory of this process "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB, PyTorch in it", flush=True)
    done = read_done(target)
    assert done
    digest = done.entry.header_sha256

    def read() -> Tensors:
        with opened(target, signer, digest) as file:
            keys = file.open_keys(master)
        sealed = (SealedFile(target.name, digest, len(keys)),)
        return load_tensors(Bundle(root, root, sealed, 32, bytearray(b"".join(keys))))

    return read


def llama(directory: Path, canary: Path) -> None:
    """Random weights of a Llama of ten layers, with the canary's tokenizer."""
    directory.mkdir()
    for file in canary.iterdir():
        if file.name not in ("config.json", "canary.json", "model.safetensors"):
            (directory / file.name).write_bytes(file.read_bytes())
    config = json.loads((canary / "config.json").read_text())
    config |= {"hidden_size": WIDE, "intermediate_size": DEEP, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
               "num_key_value_heads": 16, "head_dim": 128, "tie_word_embeddings": False}
    (directory / "config.json").write_text(json.dumps(config))
    write_weights(directory / "model.safetensors", shapes(config["vocab_size"]))


def shapes(words: int) -> dict[str, list[int]]:
    """Of its tensors, by name."""
    found = {"model.embed_tokens.weight": [words, WIDE], "lm_head.weight": [words, WIDE], "model.norm.weight": [WIDE]}
    for layer in range(LAYERS):
        parts = {f"self_attn.{name}_proj": [WIDE, WIDE] for name in "qkvo"} | {
            "mlp.gate_proj": [DEEP, WIDE], "mlp.up_proj": [DEEP, WIDE], "mlp.down_proj": [WIDE, DEEP],
            "input_layernorm": [WIDE], "post_attention_layernorm": [WIDE]}
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
    return found


def write_weights(path: Path, wanted: Mapping[str, list[int]]) -> None:
    """Random tensors of these shapes, bf16."""
    import numpy as np

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in wanted.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while place:
            piece = min(place, 64 << 20)
            # Small numbers: the upper half of a float32 is a bfloat16.
            small = (random.standard_normal(piece // 2, np.float32) / 50).view(np.uint32) >> 16
            file.write(small.astype(np.uint16).tobytes())
            place -= piece


def title(torch: Any, device: str) -> str:
    """The device, and which it is."""
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else device


def show(taken: Mapping[str, list[tuple[float, float]]], size: float) -> None:
    """Each kind's figures, and the ratio."""
    best = {kind: min(each) for kind, each in taken.items()}
    for kind, each in taken.items():
        middle = statistics.median(seconds for seconds, _ in each)
        print(f"{kind}: best {best[kind][0]:.2f} s ({size / best[kind][0]:.2f} GB/s), median {middle:.2f} s, "
              f"{min(spent for _, spent in each) / size:.2f} CPU s per GB")
    print(f"encrypted against plain: {best['plain'][0] / best['encrypted'][0]:.2f}x (wanted at least 0.6x)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    measure_reader(parser.parse_args().device)
