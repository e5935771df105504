"""The image vllm-cpu with a stand-in for vLLM: the layer with vLLM, torch and the other libraries is another one.

All other layers, the user, the environment and the entrypoint are the real image's, and so is what runs the front. The
archive holds the one new layer: the others are in containerd already, with the real image.
"""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.machine import Vmtool
from tests.lab.guest import standin_vllm

NAME = "docker.io/vmtool/standin"
LIBRARIES = Path(aiohttp.__file__).parents[1]
# What the front imports, and who opens an encrypted model, out of the tests' own environment.
FRONT = ("_cffi_backend.cpython-311-x86_64-linux-gnu.so", "aiohappyeyeballs", "aiohttp", "aiosignal", "attr", "attrs",
         "cryptography", "frozenlist", "httptools", "idna", "multidict",
         "prometheus_client", "propcache", "typing_extensions.py", "yarl",
         "__pycache__/typing_extensions.cpython-311.pyc")
WHERE, MODULE = "opt/vllm", "vllm/entrypoints/openai/api_server.py"


def standin_image(tool: Vmtool, real: Path, scratch: Path) -> str:
    """The image's reference; made and imported when it is not there.

    Args:
        real: archive of the image vllm-cpu, imported in the same state directory.
    """
    manifest, config = real_image(real)
    layer = layer_tar()
    blobs: dict[str, bytes] = {}
    largest = max(range(len(manifest["layers"])), key=lambda number: int(manifest["layers"][number]["size"]))
    manifest["layers"][largest] = add_blob(blobs, layer, "application/vnd.oci.image.layer.v1.tar")
    config["rootfs"]["diff_ids"][largest] = manifest["layers"][largest]["digest"]
    del config["history"]
    manifest["config"] = add_blob(blobs, json.dumps(config).encode(), manifest["config"]["mediaType"])
    top = add_blob(blobs, json.dumps(manifest).encode(), manifest["mediaType"])
    reference = f"{NAME}:{top['digest'][7:19]}"
    there = [image["reference"] for image in tool("image", "list", "--json").json["images"]
             if image["reference"].startswith(f"{NAME}:")]
    for old in there:
        if old != reference:
            tool("image", "rm", old)
    if reference not in there:
        tool("image", "import", archive(scratch / "standin.tar", top, reference, blobs))
    return reference


def real_image(path: Path) -> tuple[Any, Any]:
    """The manifest and the configuration of an archive's one image."""
    with tarfile.open(path) as tar:
        def read(name: str) -> Any:
            file = tar.extractfile(name)
            assert file
            return json.load(file)

        [entry] = read("index.json")["manifests"]
        manifest = read(f"blobs/sha256/{entry['digest'][7:]}")
        return manifest, read(f"blobs/sha256/{manifest['config']['digest'][7:]}")


def layer_tar() -> bytes:
    """The front's libraries, and the stand-in under vLLM's name; the same bytes each time."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path in sorted(path for name in FRONT for path in (LIBRARIES / name, *(LIBRARIES / name).rglob("*"))):
            if path.is_file():
                # The bytecode beside it is of a source with this time.
                _add(tar, f"{WHERE}/{path.relative_to(LIBRARIES)}", path.read_bytes(), int(path.stat().st_mtime))
        for parent in reversed(Path(MODULE).parents[:-1]):
            _add(tar, f"{WHERE}/{parent}/__init__.py", b"")
        _add(tar, f"{WHERE}/{MODULE}", Path(standin_vllm.__file__).read_bytes())
    return file.getvalue()


def archive(path: Path, top: dict[str, Any], reference: str, blobs: dict[str, bytes]) -> Path:
    """An OCI archive of that one image."""
    index = {"schemaVersion": 2, "manifests": [top | {"annotations": {"io.containerd.image.name": reference}}]}
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps(index).encode())
        for name, data in blobs.items():
            _add(tar, name, data)
    return path


def add_blob(blobs: dict[str, bytes], data: bytes, kind: str) -> dict[str, Any]:
    digest = sha256(data).hexdigest()
    blobs[f"blobs/sha256/{digest}"] = data
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes, mtime: int = 0) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, mtime
    tar.addfile(info, io.BytesIO(data))
