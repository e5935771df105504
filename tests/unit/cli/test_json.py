"""Every `--json` document, on recorded hosts, byte for byte: programs read them.

To write the files of tests/golden/cli/json again: `VMTOOL_WRITE_GOLDEN=1 python -m pytest tests/unit/cli`, then look at
the difference. What differs from run to run (paths, seconds, times) is replaced; what a unit test cannot do is done
beforehand: a guest's console, an answer of a model, a plugin's look at its network.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from tests.fakes.recorded import HOSTS
from tests.fakes.typed import STATE, install, launchable, recorded, typed
from tests.unit.models.encryption.make import Owner, plain_model
from tests.unit.rootfs.make import kata_dax
from vmtool.attest.server import fetch
from vmtool.attest.server.fetch import Answered
from vmtool.cli.main import vmtool
from vmtool.connect import serve
from vmtool.endpoint import client
from vmtool.endpoint.answers import Answer
from vmtool.engine import transactions
from vmtool.errors import NotReady, VerificationFailed
from vmtool.host import daemons, event_log
from vmtool.host.local import LocalHost
from vmtool.kata.base import known_base
from vmtool.kata.render import write
from vmtool.net.actions import CallPlugin
from vmtool.net.network import Network
from vmtool.records import record_text
from vmtool.serving.evidence.collect import document as made
from vmtool.spec.kata_releases import release_of
from vmtool.spec.load import read_spec
from vmtool.tls.authority import read_authority

DATA = HOSTS.parent
GOLDEN = DATA.parent / "golden" / "cli" / "json"
IDLE = {"/proc": ()}
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Place:
    """Where one command is typed: the state directory, another for its files, and what stands in for the rest."""

    state: Path
    files: Path
    patch: Patch

    def on(self, *names: str, **more: object) -> None:
        install(recorded(self.state, *names, **more), self.patch)


@dataclass(frozen=True)
class Case:
    """A command line and what it is typed on; `{files}` in a word is the directory of its files.

    Args:
        code: its exit code, also when an error ends it after the document.
    """

    words: str
    prepare: Callable[[Place], None]
    code: int = 0


def host(*names: str, **more: object) -> Callable[[Place], None]:
    return lambda place: place.on(*names, **more)


def instances(place: Place) -> None:
    """One of each launcher, none of which runs."""
    for source in sorted((DATA / "instances").iterdir()):
        written = json.loads((source / "instance.json").read_text())
        name = written["name"] = source.name
        directory = place.state / "instances" / name
        directory.mkdir(parents=True)
        (directory / "instance.json").write_text(json.dumps(written).replace(STATE, str(place.state)))
        shutil.copy(DATA / "journals" / f"launch-{name}.jsonl", directory / "journal.jsonl")
    place.on()


def running(place: Place) -> None:
    """The same, and all of them run; the machine tells nothing about their processes."""
    instances(place)
    place.patch.setattr(daemons, "living", lambda pidfile, certain=False: 4242)


def one_event(place: Place) -> None:
    """An instance that was stopped, and nothing more is known: each event is a document of its own."""
    instances(place)
    (place.state / "instances" / "runc" / event_log.NAME).write_text(
        '{"at": 1750000000.5, "event": "stopped", "source": "vmtool", "by": "vmtool stop"}\n')


def answering(place: Place) -> None:
    running(place)
    place.patch.setattr(client, "ask", lambda *words, **options: Answer("So.", "stop"))


def tokens(place: Place) -> None:
    """Instances of which one has a token that was used, one that its front does not know, and a key."""
    running(place)
    directory, shown = place.state / "instances" / "runc", {"requests": 60, "tokens": 0, "streams": 4}
    record = json.loads((directory / "instance.json").read_text())
    (directory / "instance.json").write_text(json.dumps(record | {"manage": 9464}))
    (directory / "tokens").write_text(f"token ci sha256:{'a' * 64} requests=60 streams=4 added=2026-01-01T00:00:00Z\n"
                                      f"token new sha256:{'b' * 64}\n")
    counted = {"in_flight": 1, "asked": 5, "prompt_tokens": 10, "completion_tokens": 20}
    place.patch.setattr(client, "managed", lambda *words, **options: {"tokens": [
        {"name": "key", "digest": "c" * 64, **dict.fromkeys((*shown, *counted), 0), "idle_seconds": None},
        {"name": "ci", "digest": "a" * 64, **shown, **counted, "idle_seconds": 1.0}]})
    place.patch.setattr(client, "address_of", lambda *words: client.Address("http://10.0.0.2:9464"))
    place.patch.setattr(time, "time", lambda: 1767225601.0)


def stopped(place: Place) -> None:
    """A token is made for an instance that does not run."""
    instances(place)
    place.patch.setattr(secrets, "token_hex", lambda size: "5e" * size)


def certified(place: Place) -> None:
    """An instance with a certificate, and the CA that it is of; both were made long ago."""
    running(place)
    directory, now = place.state / "instances" / "runc", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    host = LocalHost()
    authority = read_authority(host, place.state / "ca", now)
    host.write(directory / "secret" / "tls" / "certificate.pem", authority.issue(("localhost",), now).certificate)
    record = json.loads((directory / "instance.json").read_text())
    (directory / "instance.json").write_text(json.dumps(record | {"tls": True}))


def networks(place: Place) -> None:
    """Two networks of vmtool's, one of them with an address; the plugins have nothing against them."""
    result = {"cniVersion": "1.0.0", "interfaces": [{"name": "veth1", "mac": "0a:00:00:00:00:02"},
                                                    {"name": "eth0", "mac": "0a:00:00:00:00:03", "sandbox": "/n"}],
              "ips": [{"interface": 1, "address": "10.206.173.2/24", "gateway": "10.206.173.1"}]}
    address = [{"addr_info": [{"family": "inet", "local": "10.206.173.2", "prefixlen": 24}]}]
    place.on("net/ours", texts={f"{place.state}/networks/alpha/net/result.json": json.dumps(result)}, outputs={
        "ip -n alpha -j addr show dev eth0": {"out": json.dumps(address)},
        "ip -n alpha -j route show default": {"out": json.dumps([{"gateway": "10.206.173.1"}])}})
    place.patch.setattr(CallPlugin, "do", lambda action, host: None)


def wish(place: Place) -> None:
    launchable(place.state, place.files / "spec.yaml", place.patch)


def upgradable(place: Place) -> None:
    """An instance that runs, in a network of its own, of an image that was another one."""
    source, directory = DATA / "instances" / "runc", place.state / "instances" / "a"
    directory.mkdir(parents=True)
    record = json.loads((source / "instance.json").read_text()) | {"manage": 9464}
    journal = (DATA / "journals" / "launch-runc.jsonl").read_text()
    for name, text in (("instance.json", json.dumps(record)), ("journal.jsonl", journal)):
        (directory / name).write_text(text.replace(STATE, str(place.state)))
    networks = place.state / "networks"
    network = record_text(Network("a", "vmt-a", "10.201.18.0/24", "instance a"))
    launchable(place.state, place.files / "spec.yaml", place.patch, names={str(networks): ["a"]},
               texts={str(networks / "a" / "network.json"): network})
    (directory / "spec.json").write_text(read_spec(place.files / "spec.yaml").model_dump_json(by_alias=True))
    place.patch.setattr(daemons, "living", lambda pidfile, certain=False: 4242)


def images(place: Place) -> None:
    """An image in the records of a private containerd that sleeps."""
    directory, names = place.state / "images" / "tiny", ("localhost/vmtool/tiny:ab", "docker.io/vmtool/tiny:latest")
    record = {"name": "tiny", "references": names, "input": "ab" * 32, "socket": "/run/vmtool/0/containerd.sock",
              "private": True}
    listing = "".join(f"{name} application/vnd.oci.image.index.v1+json sha256:{'a' * 64} 20.5 MiB linux/amd64 -\n"
                      for name in names)
    blobs = place.state / "containerd/root/io.containerd.content.v1.content/blobs/sha256"
    place.on(texts={str(directory / "image.json"): json.dumps(record), str(directory / "listing.txt"): listing},
             names={str(directory.parent): ["tiny"]}, exists=[str(blobs / ("a" * 64))])


def guest_image(place: Place) -> None:
    """Kata's layout with an ext4 in which debugfs finds a Debian; it has no manifest."""
    path, start = kata_dax(place.files / "i.img"), 3145728
    inside = {'stat "/etc/os-release"': "Type: regular Mode: 0644 Size: 40",
              'cat "/etc/os-release"': 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
              'stat "/sbin/init"': "Type: regular Mode: 0755 Size: 40",
              'ls -p "/usr/lib/modules"': "/12/040755/0/0/6.1.0-50-amd64//"}
    place.on(which={"debugfs": "/usr/sbin/debugfs", "e2fsck": "/usr/sbin/e2fsck"}, outputs={
        f"e2fsck -fn '{path}?offset={start}'": {"status": 0},
        **{shlex.join(("debugfs", "-R", asked, f"{path}?offset={start}")): {"out": out}
           for asked, out in inside.items()}})


def broken_image(place: Place) -> None:
    (place.files / "i.img").write_bytes(b"\x00" * 8192)
    place.on()


def booted(place: Place) -> None:
    """A guest that was booted and whose report is on the console."""
    guest_image(place)
    (place.files / "i.img.vmlinuz").write_bytes(b"")
    lines = ("mounted yes", "kernel 6.1.0-50-amd64", "unit multi-user.target active", "failed", "end")
    left_behind(place, "console.log", "".join(f"VMTOOL-REPORT {line}\n" for line in lines))


def foreign(place: Place) -> None:
    """A disk that only a guest can read, and what the guest's program wrote down of it."""
    (place.files / "i.img").write_bytes(b"QFI\xfb" + (3).to_bytes(4, "big") + b"\x00" * 8184)
    place.on()
    left_behind(place, "foreign.json", json.dumps({
        "virtual_size": 1 << 30, "table": "gpt", "root": "/dev/sda1", "filesystems": [
            {"device": "/dev/sda1", "holds": "xfs", "size": 1 << 29}], "contents": {
            "system": "openEuler 24.03", "kernels": ["6.6.0"], "modules": [], "toolkit": "", "has_toolkit": False,
            "hooks": []}, "findings": [{"id": "kata.init", "level": "ok", "title": "first process",
                                        "detail": "/sbin/init", "hint": ""}]}))


def left_behind(place: Place, name: str, text: str) -> None:
    """In the place of a plan's application: the file that it would leave in its subject's directory."""
    def leave(state: object, directory: Path, *words: object, **options: object) -> SimpleNamespace:
        directory.mkdir(parents=True)
        (directory / name).write_text(text)
        return SimpleNamespace(changes=True)

    place.patch.setattr(transactions, "run_transaction", leave)


def compared(place: Place) -> None:
    """Another host's document is compared with this one's."""
    place.on("hosts/epyc-snp")
    made = typed(place.state, "doctor", "--for", "kata", "--tee", "snp", "--json").stdout
    (place.files / "good.json").write_text(made.replace('"available": true', '"available": false'))


def shipped(place: Place) -> None:
    """A configuration of the shipped form with a word that is misspelt."""
    text = (GOLDEN.parents[1] / "kata" / "4.1-snp.toml").read_text()
    (place.files / "c.toml").write_text(text.replace("confidential_guest", "confidental_guest"))
    place.on("hosts/epyc-snp")


def kata_spec(place: Place) -> None:
    """A spec for the installed release, whose own configuration is there."""
    (place.files / "spec.yaml").write_text(
        "apiVersion: vmtool/v1\nkind: Runtime\nmetadata: {name: chat}\nspec:\n  runtime: {handler: kata, tee: snp}\n"
        "  model: {name: m, path: /m}\n  resources: {memory: 8Gi, cpus: 2}\n")
    name = "/opt/kata/share/defaults/kata-containers/configuration-qemu-snp.toml"
    base = known_base(release_of("3.30"), "qemu-snp", "x86_64", "/opt/kata")
    assert base is not None
    place.on("hosts/epyc-snp", texts={name: write(("as it is shipped",), base.values, ())})


def encrypted(place: Place) -> None:
    """An encrypted model whose configuration somebody changed."""
    owner = Owner(place.files, private=bytes(range(32)))
    owner.model(plain_model(place.files / "plain"), place.files / "m")
    (place.files / "m" / "config.json").write_text("{}")


def report(place: Place) -> None:
    """A report of SEV-SNP that nobody signed, of version 3 and with the guest policy 0x30000."""
    (place.files / "report.bin").write_bytes(bytes((3, *bytes(7), 0, 0, 3)).ljust(1184, b"\0"))


async def answered(there: object, nonce: bytes | None = None) -> Answered:
    return Answered(json.dumps(made(bytes(32), b"k" * 32, lambda bound: None)).encode(), bytes(32), b"k" * 32)


def verified(place: Place) -> None:
    """A server without a TEE, which answers as a front does."""
    place.patch.setattr(serve, "fetch", answered)
    (place.files / "policy.yaml").write_text("apiVersion: vmtool/v1\nkind: ConnectPolicy\nallow_unconfidential: true\n")


def asked(place: Place) -> None:
    """The same server, asked for its evidence."""
    place.patch.setattr(fetch, "fetch", answered)


CASES = {
    "doctor": Case("doctor --for kata --tee snp --json", host("hosts/epyc-snp")),
    "doctor-compare": Case("doctor --compare {files}/good.json --json", compared, VerificationFailed.code),
    "plan": Case("plan {files}/spec.yaml --json", wish),
    "ps": Case("ps --json", instances),
    "status-runc": Case("status runc --json", running),
    "status-kata": Case("status kata --json", running),
    "status-libvirt": Case("status libvirt --json", running),
    "status-stopped": Case("status libvirt --json", instances, 1),
    "events": Case("events runc --json", one_event),
    "top": Case("top --json", instances),
    "chat": Case("chat runc Why? --json", answering),
    "token-list": Case("token list runc --json", tokens),
    "token-add": Case("token add ci runc --requests 60 --json", stopped),
    "ca-show": Case("ca show --json", certified),
    "upgrade": Case("upgrade a --dry-run --json", upgradable),
    "image-list": Case("image list --json", images),
    "rootfs-inspect": Case("rootfs inspect {files}/i.img --json", guest_image),
    "rootfs-inspect-foreign": Case("rootfs inspect {files}/i.img --json", foreign),
    "rootfs-inspect-broken": Case("rootfs inspect {files}/i.img --json", broken_image),
    "rootfs-verify": Case("rootfs verify {files}/i.img --root-hash " + "ab" * 32 + " --json", guest_image,
                          VerificationFailed.code),
    "rootfs-boot": Case("rootfs boot {files}/i.img --json", booted),
    "model-inspect": Case("model inspect {files}/m --signer {files}/signer.jwk --json", encrypted),
    "model-verify": Case("model verify {files}/m --signer {files}/signer.jwk --json", encrypted,
                         VerificationFailed.code),
    "net-show": Case("net show --json", networks),
    "net-show-one": Case("net show alpha --json", networks),
    "net-check": Case("net check alpha --json", networks, VerificationFailed.code),
    "gpu-list": Case("gpu list --json", host("hosts/gpu-grace", names=IDLE)),
    "gpu-status": Case("gpu status 0009:01:00.0 --json", host("hosts/gpu-grace", names=IDLE)),
    "gpu-cc-mode-show": Case("gpu cc-mode show --json", host("hosts/gpu-kunpeng-a100", names=IDLE)),
    "gpu-cc-mode-show-unknown": Case("gpu cc-mode show 0000:18:00.0 --json", host("hosts/gpu-hgx-h100", names=IDLE),
                                     NotReady.code),
    "kata-check": Case("kata check {files}/c.toml --kata-version 4.1 --tee snp --json", shipped,
                       VerificationFailed.code),
    "kata-render": Case("kata render {files}/spec.yaml --json", kata_spec),
    "attest-verify": Case("attest verify {files}/report.bin --at 2026-01-01 --json", report, VerificationFailed.code),
    "attest-reference": Case("attest reference {files}/spec.yaml --json", kata_spec),
    "attest-evidence": Case("attest evidence https://127.0.0.1:8443 -o {files}/e.json --json", asked,
                            VerificationFailed.code),
    "connect": Case("connect https://127.0.0.1:8443 --policy {files}/policy.yaml --check --json", verified),
    "kata-which": Case("kata which --json", host("hosts/epyc-snp")),
    "kata-keys": Case("kata keys confidential_guest --json", host()),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("VMTOOL_CACHE", str(tmp_path / "cache"))
    return Place(tmp_path / "state", tmp_path / "files", monkeypatch)


def document(place: Place, case: Case) -> str:
    """What the command prints, with what differs from run to run replaced."""
    case.prepare(place)
    result = typed(place.state, *(word.replace("{files}", str(place.files)) for word in case.words.split()))
    told = getattr(result.exception, "code", result.exit_code)
    assert told == case.code, (result.output, result.exception)
    text = result.stdout.replace(str(place.state), STATE).replace(str(place.files), "/files")
    assert str(place.files.parent) not in text
    text = re.sub(r'"fingerprint": "[0-9a-f]{64}"', '"fingerprint": "' + "ab" * 32 + '"', text)
    # The master key of a model is another one in each run.
    text = re.sub(r'"manifest": "sha256:[0-9a-f]{64}"', '"manifest": "sha256:' + "ab" * 32 + '"', text)
    for name, value in (("seconds", "0.0"), ("allocated", "4096")):
        text = re.sub(rf'"{name}": [0-9.]+', f'"{name}": {value}', text)
    # What is called after the state directory's or an image's path has another name in each run.
    # The mark of the state directory's leases, as a number and as ctr shows it.
    text = re.sub(r'"west": [0-9]+', '"west": 1351', text)
    text = re.sub(r'~=(\\+)"-[0-9:]{5}\$', r'~=\g<1>"-22:31$', text)
    text = re.sub(r'(checksum\\": \\")[0-9a-f]{16}', r"\g<1>0123456789abcdef", text)
    # Which Python this is.
    text = re.sub(r'binary://[^?"]+', "binary:///usr/bin/python3", text)
    return re.sub(r"(image-|/run/vmtool/)[0-9a-f]{8,12}\b", r"\g<1>01234567", text)


def golden(name: str, text: str) -> None:
    file = GOLDEN / f"{name}.json"
    if os.environ.get("VMTOOL_WRITE_GOLDEN"):
        file.write_text(text)
    assert file.is_file(), f"a new document: write {file.name}, as the head of this file says"
    assert file.read_text() == text


@pytest.mark.parametrize("name", CASES)
def test_document(name: str, place: Place) -> None:
    text = document(place, CASES[name])
    golden(name, text)
    made = json.loads(text)
    assert (next(iter(made)), made["schema"]) == ("schema", "vmtool/v1"), "one document, and it says of which form"


def test_evidence_that_is_kept(place: Place) -> None:
    """The document of `status --proof` that stays in the instance's directory, for others to check."""
    running(place)
    assert typed(place.state, "status", "runc", "--proof").exit_code == 0
    text = (place.state / "instances" / "runc" / "evidence" / "proof.json").read_text()
    text = re.sub(r'"at": "[^"]+"', '"at": "2026-01-01T00:00:00Z"', text)
    digest = hashlib.sha256((place.state / "instances" / "runc" / "instance.json").read_bytes()).hexdigest()
    golden("evidence", text.replace(digest, "ab" * 32))
    assert json.loads(text)["files"] == {"instance.json": digest}


def with_json(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if any("--json" in parameter.opts for parameter in command.params):
        yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if found := command.get_command(context, name):
                yield from with_json(found, (*words, name))


def test_every_command_with_a_document_is_in_the_table() -> None:
    known = [tuple(case.words.split()) for case in CASES.values()]
    missing = [words for words in with_json(vmtool) if not any(case[:len(words)] == words for case in known)]
    assert missing == []


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {*CASES, "evidence"}
