"""Launches: with runc, on a private and on the system's containerd, over what an earlier one left."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.fakes import typed
from tests.fakes.launches import Found, launched
from tests.fakes.machine import FakeMachine
from tests.fakes.machine.containers import Containerd, digest_of, install_image
from tests.fakes.recorded import Recorded
from tests.unit.kata import cases as kata_cases
from tests.unit.kata import launches as kata
from tests.unit.launch import cases as runc
from tests.unit.libvirt import cases as libvirt
from tests.unit.sweeps import gpu, net
from tests.unit.sweeps.engine import Boot, Case, Make, booted
from vmtool.containerd.endpoint import SYSTEM, choose_endpoint
from vmtool.doctor.host import HostFacts
from vmtool.engine.journal import Journal
from vmtool.gpu.facts import read_gpu
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.launch.facts import read_launch
from vmtool.launch.pipeline import plan_launch
from vmtool.launch.plan_reference import plan_files
from vmtool.launch.plan_upgrade import plan_upgrade
from vmtool.models.encryption.launch_facts import EncryptedModelFacts
from vmtool.net.after_cleanup import facts_without, unpublished
from vmtool.net.facts import read_network
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.records import record_of
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import Launch

IMAGE = "docker.io/vmtool/x:latest"
MODEL = {"/m/config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}),
         "/m/canary.json": json.dumps({"prompt": "Why?", "expect": "So."}), "/m/model.safetensors": ""}
FIND = "find -L /m -maxdepth 2 -printf '%y %m %s %P\\0'"
FOUND = {"out": "d 755 0 \0f 644 9 config.json\0f 644 2 tokenizer.json\0f 644 1048576 model.safetensors\0"}
QEMU = Path(__file__).parents[2] / "data" / "qemu"
FILES = (*kata_cases.FILES, "/i/rootfs.img", "/i/rootfs.img.vmlinuz", *libvirt.FIRMWARE.values(), "/bin/busybox")
VIRTCCA = kata.wish(runtime=kata.VIRTCCA, allow_unconfidential=True, resources={
    "memory": "2Gi", "cpus": 1, "accelerators": kata.GPU})
LEFT = {
    **net.LEFT,
    r"files .*/containerd/(config.toml|containerd.log)": "the private containerd's own, for the next one to be started",
    r"files .*/instances/[^/]+/(b/)?(log|evidence|kata)/.*": "what a failed launch leaves for a person to read",
    r"files .*/instances/[^/]+/(b/)?(spec|instance)\.json": "likewise",
    r"files .*/disks/.*": "the disk of an image, for all instances of it",
    r"files .*/instances/[^/]+/(b/)?container\.pid": "names a process that is gone",
}


@functools.cache
def recorded(root: Path) -> Recorded:
    return typed.recorded(root, "hosts/debian12-pvm", "net/plain", texts=MODEL, outputs={FIND: FOUND},
                          which={"iptables": "/usr/sbin/iptables"})


def host(state: State) -> FakeMachine:
    """A machine with containerd's programs and the model; the private containerd holds the image already."""
    machine = FakeMachine(recorded(state.root))
    machine.answers = {"Why?": "So."}
    install_image(machine, state, IMAGE)
    return machine


def with_system(state: State) -> FakeMachine:
    """The same, with a containerd of the system's that answers."""
    machine = host(state)
    machine.tree.make_dir(str(SYSTEM.parent), parents=0o755)
    machine.tree.write(str(SYSTEM), b"")
    machine.start("/usr/bin/containerd", socket=str(SYSTEM))
    machine.roots[str(SYSTEM)] = "/var/lib/containerd"
    machine.containerds["/var/lib/containerd"] = Containerd({IMAGE: digest_of(IMAGE)})
    return machine


def launch(spec: Spec, change: Callable[[Launch], Launch] = lambda launch: launch) -> Make:
    def make(state: State, machine: FakeMachine) -> Plan:
        found, host = read_launch(machine, state, spec)
        return plan_launch(change(found), host)

    return make


def on_the_systems(launch: Launch) -> Launch:
    """The system's containerd answers."""
    return replace(launch, endpoint=choose_endpoint(launch.state, True))


def over_an_earlier_one(state: State, machine: FakeMachine) -> Plan:
    """The launch's own process ended, all else is still there."""
    directory = state.instance("a")
    earlier = Instance("a", Paths(directory), None, "stopped", None, Journal(directory).replay())
    return launch(runc.wish(), lambda found: replace(found, earlier=earlier, network_facts=facts_without(
        found.network_facts, "instance a")))(state, machine)


def upgrade(spec: Spec) -> Make:
    """A new one beside the one that runs."""
    def make(state: State, machine: FakeMachine) -> Plan:
        made, host = read_launch(machine, state, spec)
        running = running_one(state, machine)
        made = replace(made, slot="b", replaces=running, network_facts=unpublished(read_network(machine, state), "a"))
        return plan_upgrade(made, host, running, runc.wish(), drain=None, typed="vmtool upgrade a")

    return make


def running_one(state: State, machine: FakeMachine) -> Instance:
    """The instance as its journal and its files say; its process is the machine's."""
    directory = state.instance("a")
    replayed = Journal(directory).replay()
    paths = Paths(directory, replayed.slot)
    record = record_of(InstanceRecord, machine.tree.read(str(paths.record)))
    return Instance("a", paths, record, "running", machine.living(paths.pidfile), replayed)


def serving(state: State) -> FakeMachine:
    """A launch that came to its end."""
    machine = LAUNCHED(state)
    # Also a real file, since a launch that came to its end without one is damaged.
    record = Paths(state.instance("a")).record
    record.write_bytes(machine.tree.read(str(record)))
    return machine


def stopped(state: State) -> FakeMachine:
    """A launch that came to its end, and whose container then ended."""
    machine = serving(state)
    [task] = machine.containerds[str(state.containerd / "root")].tasks.values()
    machine.end(task.pid)
    return machine


def cleared(state: State) -> FakeMachine:
    machine = host(state)
    machine.tree.make_dir(str(state.instance("a")), 0o700, parents=0o700)
    return machine


def with_guests(name: str, file: str, gpus: str = "", program: str = "", changes: Mapping[str, str] = {}) -> Boot:
    """A machine whose QEMU `name` has the arguments of a file of tests/data/qemu.

    Args:
        gpus: the recorded host of its devices.
        program: QEMU's, when it is another than in the file; changes: of its other arguments.
    """
    def boot(state: State) -> FakeMachine:
        limit = {"/sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "8388608\n"}
        devices = Recorded.load(f"gpu-{gpus}", names={"/proc": None}, texts=limit).data if gpus else {}
        machine = FakeMachine(Recorded(typed.merge(copy.deepcopy(recorded(state.root).data), devices)),
                              dict.fromkeys(FILES, "x"))
        machine.answers = {"Why?": "So."}
        install_image(machine, state, IMAGE)
        machine.late_groups = {"0000:81:00.0": 31} if gpus else {}
        text = (QEMU / f"{file}.json").read_text().replace('"/s/', f'"{state.root}/')
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        first, *rest = json.loads(text)
        machine.guests.qemu = {name: (program or first, *rest)}.__getitem__
        return machine

    return boot


def launch_kata(spec: Spec, *, gpus: bool = False) -> Make:
    def make(state: State, machine: FakeMachine) -> Plan:
        found = kata.facts(spec, gpus=machine if gpus else None)
        return plan_launch(*launched(state, spec, replace(found, host=_here(state, machine, kata.host()))))

    return make


def launch_libvirt(spec: Spec) -> Make:
    """With a guest of the facts in tests.unit.libvirt.cases."""
    return lambda state, machine: plan_launch(*_libvirt(spec, state, machine))


def reference_of(spec: Spec) -> Make:
    """The files alone of which a launch's reference values are computed."""
    return lambda state, machine: plan_files(_libvirt(spec, state, machine)[0])


def _libvirt(spec: Spec, state: State, machine: FakeMachine) -> tuple[Launch, HostFacts]:
    guest = replace(libvirt.facts(spec.spec.runtime.tee), system=False, swtpm=True)
    gpu = read_gpu(machine, state) if spec.spec.resources.accelerators.bdf else None
    return launched(state, spec, Found(_here(state, machine, libvirt.host()), runc.MODEL, None, guest=guest, gpu=gpu))


def _here(state: State, machine: FakeMachine, host: HostFacts) -> HostFacts:
    """The facts of a host, with the network of this machine."""
    return replace(host, network=read_network(machine, state))


SHARE = "/opt/kata/share/kata-containers"
# What the spec asks for, in the place of what the recorded arguments have.
ASKED = {"0000:81:00.0": kata.GPU["bdf"][0], f"{SHARE}/kata-containers-confidential.img": "/g.img",
         f"{SHARE}/vmlinuz-confidential.container": "/g.kernel"}
RUNC = launch(runc.wish())
LAUNCHED: Boot = booted(host, RUNC)
HUB = launch(runc.wish(model={"name": "m", "source": "huggingface", "repository": "o/r"},
                       canary={"prompt": "Why?", "expect": "So."}))
ENCRYPTED = launch(runc.wish(hardening={"profile": "private-shm"}, model={"name": "m", "path": "/m", "encryption": {
    "signer": "/o/signer.jwk", "key": {"file": "/o/master.jwk"}}}),
    lambda found: replace(found, encrypted=EncryptedModelFacts("A" * 43 + "=:signer-1")))


def with_key(state: State) -> FakeMachine:
    """A machine with the key of an encrypted model."""
    machine = host(state)
    machine.tree.make_dir("/o", parents=0o755)
    machine.tree.write("/o/master.jwk", b'{"kty": "oct"}\n')
    return machine


CASES = {
    "launch runc": Case(host, RUNC, LEFT),
    "launch runc, the system's containerd": Case(with_system, launch(runc.wish(), on_the_systems), LEFT),
    "launch runc, an encrypted model": Case(with_key, ENCRYPTED, LEFT),
    "launch runc, with TLS": Case(host, launch(runc.wish(tls={"source": "ca"})), LEFT | {
        r"files .*/state/ca(/ca\.(pem|key))?": "the CA, for all instances"}),
    "launch runc, with a TLS key of its own": Case(host, launch(runc.wish(tls={"source": "guest"})), LEFT),
    "launch runc, a model of a hub": Case(host, HUB, LEFT | {r"files .*/hub": "the cache of the hub's models"}),
    "launch kata": Case(with_guests("sandbox-chat", "snp", program="/opt/kata/bin/qemu-system-x86_64"),
                        launch_kata(kata.wish()), LEFT),
    "launch kata, a GPU": Case(with_guests("sandbox-chat", "virtcca-gpu", "kunpeng-a100",
                                           "/opt/kata/bin/qemu-system-x86_64", ASKED),
                               launch_kata(VIRTCCA, gpus=True), LEFT | gpu.LEFT),
    "attest reference": Case(with_guests("vmtool-chat", "snp-libvirt"), reference_of(libvirt.wish("snp")), LEFT),
    "launch libvirt": Case(with_guests("vmtool-chat", "snp-libvirt"), launch_libvirt(libvirt.wish("snp")), LEFT),
    "launch libvirt, a GPU": Case(with_guests("vmtool-chat", "snp-libvirt-gpu", "kunpeng-a100"),
                                  launch_libvirt(libvirt.wish("snp", 1)), LEFT | gpu.LEFT),
    "launch libvirt, a TPM": Case(with_guests("vmtool-chat", "none-libvirt"), launch_libvirt(
        libvirt.wish("none", libvirt={"tpm": True, "firmware": libvirt.FIRMWARE["none"]})), LEFT),
    "launch libvirt, not confidential": Case(with_guests("vmtool-chat", "none-libvirt"),
                                             launch_libvirt(libvirt.wish("none")), LEFT),
    "upgrade": Case(serving, upgrade(runc.wish(resources={"memory": "1Gi", "cpus": 1})), LEFT, undone=cleared),
    "launch runc, over an earlier one": Case(stopped, over_an_earlier_one, LEFT, undone=cleared),
}
