"""A lab machine that launches guests: beside the GPUs it has containerd, CNI, libvirt and QEMU, all Debian's own.

What a launch needs is on a second disk: the guest image, a workload's container image, a model's directory.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from tests.lab.cache import Part, ensure
from tests.lab.images import disk, make_root
from tests.lab.lab import Lab
from tests.lab.parts import BOOKWORM, KERNEL, NO_DOCS, NO_RECOMMENDS, QEMU, TREE_PACKAGES, mmdebstrap, run, tree
from vmtool import serving

PACKAGES = (*TREE_PACKAGES, "containerd", "runc", "containernetworking-plugins", "iptables", "e2fsprogs",
            "libvirt-daemon-system", "libvirt-clients", "python3-libvirt", "qemu-system-x86")
# Sparse: vmtool refuses a launch on less than 4 GiB of free space.
SIZE = "8G"
HOST_DISK = disk("launch-disk", tree("launch-tree", PACKAGES), SIZE)
PAYLOAD = "/srv/payload"

STANDIN = Path(__file__).with_name("guest") / "standin_vllm.py"
IMAGE = "docker.io/vmtool/lab-standin:latest"
SERVING = Path(serving.__file__).parent
# Unpacked, not configured: all that runs in it is Python, and the env that starts it.
WORKLOAD_ARGV = ("--variant=extract", "--include=python3,coreutils", NO_RECOMMENDS, *NO_DOCS, "bookworm", BOOKWORM)
# What the front imports, in the versions of the real image.
WHEELS = ("aiohttp==3.14.5",)


def prepare_launch_host(say: Callable[[str], None] = lambda _line: None) -> Lab:
    """The parts of a machine that launches guests; LabError says what cannot be made."""
    return Lab(ensure(QEMU, say=say), ensure(KERNEL, say=say), ensure(HOST_DISK, say=say))


def _make_workload(target: Path, scratch: Path, _inputs: tuple[Path, ...]) -> None:
    root = scratch / "root"
    mmdebstrap(root, scratch, WORKLOAD_ARGV)
    wheels = root / "usr/local/lib/python3.11/dist-packages"
    run((sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(wheels), *WHEELS),
        600)
    for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp", "models"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.move(root, target / "root")


WORKLOAD = Part("launch-workload", (*WORKLOAD_ARGV, *WHEELS), _make_workload)


def make_payload(disk_file: Path, scratch: Path, guest: Path, say: Callable[[str], None]) -> None:
    """Write the second disk.

    Args:
        guest: of `vmtool rootfs build`, with its metadata files beside it.
    """
    whole = scratch / "payload"
    (whole / "model").mkdir(parents=True)
    for path in guest.parent.glob(f"{guest.name}*"):
        run(("cp", "--sparse=always", str(path), str(whole / path.name)), 300)
    # A model's directory as vmtool wants to see one; the stand-in reads none of it.
    (whole / "model/config.json").write_text('{"architectures": ["StandinForCausalLM"]}\n')
    (whole / "model/tokenizer.json").write_text("{}")
    (whole / "model/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    write_image(ensure(WORKLOAD, say=say).path / "root", whole / "standin.tar")
    subprocess.run(["chmod", "-R", "go+rX", whole], check=True, timeout=60)
    make_root(disk_file, whole, "3G")


def write_image(root: Path, archive: Path) -> None:
    """The workload's image as `docker save` writes one: Python, this checkout's front, and a stand-in for vLLM."""
    package = "usr/local/lib/python3.11/dist-packages"
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add(root, ".")
        for source in (SERVING.parent / "__init__.py", *sorted(SERVING.rglob("*.py")), *SERVING.glob("*.json")):
            tar.add(source, f"./{package}/vmtool/{source.relative_to(SERVING.parent)}")
        for name in ("vllm", "vllm/entrypoints", "vllm/entrypoints/openai"):
            _add(tar, f"./{package}/{name}/__init__.py", b"")
        tar.add(STANDIN, f"./{package}/vllm/entrypoints/openai/api_server.py")
    with layer.open("rb") as file:
        digest = _digest(file)
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]},
                         "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8"]}})
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}])
    with tarfile.open(archive, "w") as tar:
        _add(tar, "config.json", config.encode())
        _add(tar, "manifest.json", manifest.encode())
        tar.add(layer, "layer.tar")
    layer.unlink()


def _digest(file: io.BufferedReader) -> str:
    total = sha256()
    while piece := file.read(1 << 20):
        total.update(piece)
    return f"sha256:{total.hexdigest()}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
