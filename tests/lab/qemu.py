"""QEMU as a process: its arguments out of a topology, its sockets, and its end.

QMP and the agent's port are socket pairs that QEMU inherits, so they have no path and vanish with it. QEMU and the
server of the fakes die with this process (PR_SET_PDEATHSIG), also when a session is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import LabError
from tests.lab.guest.agent import PORT
from tests.lab.lab import Lab
from tests.lab.topology import Fake, Topology

GRACE = 5.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
CONSOLES = {False: "file,id=console,path=serial.log,append=on", True: "stdio,id=console,signal=off"}
_MACHINES = {"x86_64": ("q35", "ttyS0"), "aarch64": ("virt,gic-version=3,iommu=smmuv3", "ttyAMA0")}


def arguments(lab: Lab, topology: Topology) -> list[str]:
    """QEMU's arguments for a machine, less what differs from start to start (disk, sockets, log)."""
    machine, console = _MACHINES[topology.arch]
    x86 = topology.arch == "x86_64"
    kernel_args = [f"console={console}", "root=/dev/vda", "rw", "panic=-1", "quiet", "systemd.show_status=0",
                   "net.ifnames=0", *(["intel_iommu=on"] if x86 else []), *topology.kernel_args]
    iommu = f"intel-iommu,intremap={'on' if topology.intremap else 'off'},caching-mode=on"
    return [
        *lab.program(f"qemu-system-{topology.arch}"), "-L", str(lab.qemu.path / "qemu"),
        "-L", str(lab.qemu.path / "seabios"), "-nodefaults", "-no-user-config", "-display", "none", "-net", "none",
        "-M", f"{machine},memory-backend=mem", "-accel", "tcg,thread=multi", "-smp", "2", "-m", str(topology.memory),
        *(["-cpu", topology.cpu] if topology.cpu else [] if x86 else ["-cpu", "max,pauth-impdef=on"]),
        "-object", f"memory-backend-memfd,id=mem,size={topology.memory}M,share=on",
        *(["-device", iommu] if x86 else []),
        "-kernel", str(lab.kernel.path / "vmlinuz"), "-initrd", str(lab.disk.path / "initramfs"),
        "-append", " ".join(kernel_args),
        "-device", "virtio-blk-pci,drive=root,bus=pcie.0,addr=2,romfile=",
        "-device", "virtio-serial-pci,bus=pcie.0,addr=3", "-device", f"virtserialport,chardev=agent,name={PORT}",
        *(word for number, device in enumerate(topology.devices) for word in ("-device", _argument(number, device))),
    ]


def _argument(number: int, device: object) -> str:
    if not isinstance(device, Fake):
        return str(device.argument())                  # type: ignore[attr-defined]
    options: dict[str, object] = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": f"{number}.sock"}}
    for option in device.options:
        key, _, value = option.partition("=")
        options[key] = value == "on" if value in ("on", "off") else value
    return json.dumps(options)


def read_only(disks: Sequence[Path]) -> list[str]:
    """The arguments for further disks, raw files that the machine only reads: vdb and so on."""
    return [word for number, disk in enumerate(disks) for word in (
        "-drive", f"file={disk},format=raw,if=none,id=more{number},readonly=on",
        "-device", f"virtio-blk-pci,drive=more{number},bus=pcie.0,addr={0x10 + number:#x},romfile=")]


def start(lab: Lab, topology: Topology, directory: Path, *extra: str, interactive: bool = False
          ) -> tuple[subprocess.Popen[bytes], socket.socket, socket.socket]:
    """Start QEMU in `directory`, which holds disk.qcow2: the process, QMP's socket, the agent's socket.

    The console goes to serial.log, or is the terminal when `interactive`.
    """
    qmp, its_qmp = socket.socketpair()
    agent, its_agent = socket.socketpair()
    argv = [*arguments(lab, topology), "-drive", "file=disk.qcow2,format=qcow2,if=none,id=root,cache=unsafe",
            "-chardev", f"socket,id=qmp,fd={its_qmp.fileno()}", "-object", "monitor-qmp,id=monitor,chardev=qmp",
            "-chardev", f"socket,id=agent,fd={its_agent.fileno()}",
            "-chardev", CONSOLES[interactive], "-serial", "chardev:console", *extra]
    with its_qmp, its_agent, (directory / "qemu.log").open("ab") as log:
        child = subprocess.Popen(argv, cwd=directory, stdin=None if interactive else subprocess.DEVNULL,
                                 stdout=None if interactive else log, stderr=log,
                                 env=environment(lab), pass_fds=(its_qmp.fileno(), its_agent.fileno()),
                                 preexec_fn=_die_with_parent)
    return child, qmp, agent


def environment(lab: Lab) -> dict[str, str]:
    """QEMU looks for its own modules at a path of its distribution; ours lie elsewhere."""
    return os.environ | {"QEMU_MODULE_DIR": str(lab.qemu.path / "lib/qemu"), "LC_ALL": "C.UTF-8"}


def serve_fakes(topology: Topology, directory: Path) -> subprocess.Popen[bytes]:
    """Start the server of a topology's fakes, and wait until it listens."""
    specs = [{"path": f"{number}.sock", **dataclasses.asdict(device)}
             for number, device in enumerate(topology.devices) if isinstance(device, Fake)]
    for spec in specs:
        del spec["options"]
    child = subprocess.Popen([sys.executable, "-m", "tests.lab.vfu", json.dumps(specs)], cwd=directory,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_die_with_parent,
                             env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    assert child.stdout
    if child.stdout.readline() != b"ready\n":
        end(child)
        raise LabError("the server of the fake devices did not start")
    return child


def end(child: subprocess.Popen[bytes]) -> None:
    """Terminate a process, then kill it; nothing of ours ends in D state on the host."""
    for stop in (child.terminate, child.kill):
        if child.poll() is None:
            stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
