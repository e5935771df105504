"""A launch on the disk, as `vmtool run` leaves it, and bundles of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.fakes.recorded import Recorded
from tests.unit.launch.cases import CHAIN, RECORD, wish
from vmtool.attest.appraisal import Appraisal
from vmtool.attest.request import Request
from vmtool.bundle.archive import pack, unpack
from vmtool.bundle.chain import sealed
from vmtool.bundle.contents import CHAIN as DIGESTS
from vmtool.bundle.make import make_bundle
from vmtool.bundle.observed import ObservingReader
from vmtool.engine.journal import Journal
from vmtool.instance.instance import Instance, Paths
from vmtool.launch.claims import read_whole_claims
from vmtool.launch.commands import bundle
from vmtool.paths import State
from vmtool.plan import MakeDir, Plan, Remove, Step, to_json
from vmtool.proof.evidence import keep_evidence
from vmtool.records import record_text, sealed_text
from vmtool.stage.launch import digest

PID = 7
KEY = "an-api-key-of-twenty-nine-chars"
PEM = ("-----BEGIN CERTIFICATE-----\nMIIBpublicpublicpublicpublic\n-----END CERTIFICATE-----\n"
       "-----BEGIN PRIVATE KEY-----\nMIGHsecretsecretsecretsecret\n-----END PRIVATE KEY-----\n")
SECRETS = {"api-key": KEY, "manager-key": "0123456789abcdef" * 4, "metrics-key": "fedcba9876543210" * 4,
           "tls/key.pem": PEM, "access": "certificate cHVibGljcHVibGljcHVibGlj"}
STATUS = ("Name:\tpython3\nVmRSS:\t{} kB\nUid:\t65532\t65532\t65532\t65532\nCapPrm:\t0000000000000000\n"
          "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n")


@dataclass(frozen=True)
class Launched:
    """An instance that runs, and the machine that it runs on."""

    state: State
    instance: Instance

    def machine(self, memory: int = 100) -> Recorded:
        directory, record = self.instance.paths.directory, self.instance.known()
        files = {str(path): path.read_text() for path in (self.instance.paths.canary, self.instance.paths.server,
                                                          self.instance.paths.spec)}
        assert directory.is_dir()
        return Recorded({
            "texts": {f"/proc/{PID}/status": STATUS.format(memory),
                      f"/proc/{PID}/mountinfo": "4 1 0:5 / / ro,relatime - overlay overlay rw\n",
                      f"/proc/{PID}/cgroup": "4:memory:/vmtool-a\n8:pids:/vmtool-a\n0::/\n",
                      "/sys/fs/cgroup/pids/vmtool-a/pids.max": "16384\n",
                      "/sys/fs/cgroup/memory/vmtool-a/memory.limit_in_bytes": "4096\n", **files},
            "outputs": {f"ip netns identify {PID}": {"out": "vmtool-a\n"},
                        " ".join(record.endpoint.ctr("snapshots", "info", "a")): {"out": json.dumps({"Parent": CHAIN})},
                        }})

    def bundle(self, machine: Recorded | None = None) -> bytes:
        """As `vmtool status a --proof -o FILE` writes it."""
        reader = ObservingReader(machine or self.machine())
        keep_evidence(self.state, self.instance, read_whole_claims(reader, self.instance), "a test")
        return make_bundle(self.state, self.instance, reader, read_whole_claims, "a test")


def launched(root: Path, evidence: Mapping[str, bytes] | None = None, **changes: Any) -> Launched:
    state = State(root)
    paths, spec = Paths(state.instance("a")), wish(**changes)
    record = replace(RECORD, digest=digest(spec))
    rendered = {"net/result.json": b"{}", "log/guest.log": b"said", "tokens": b"token lab sha256:00",
                "evidence/canary.json": json.dumps({"right": True, "answer": "So."}).encode(),
                "evidence/server.json": json.dumps({"arguments": None}).encode(), "facts.json": b"{}\n",
                "spec.json": (spec.model_dump_json(indent=2, by_alias=True) + "\n").encode(),
                "instance.json": record_text(record).encode(), **(evidence or {}),
                **{f"secret/{name}": text.encode() for name, text in SECRETS.items()}}
    for name, content in rendered.items():
        (paths.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.directory / name).write_bytes(content)
    steps = tuple(Step(f"make {name}", (MakeDir(Path(name)),), undo=(Remove(Path(name)),)) for name in ("/one", "/two"))
    waits = Step("wait", (MakeDir(Path("/w")),), waits_only=True)
    plan = Plan("instance a", paths.directory, (waits, *steps, Step("nothing", skip="it is there")))
    (paths.directory / "plan.json").write_text(sealed_text(to_json(plan)))
    _journal(paths.directory, (*steps, waits))
    return Launched(state, Instance("a", paths, record, "running", PID))


def _journal(directory: Path, steps: tuple[Step, ...]) -> None:
    (directory / "plan.json").rename(directory / "plan")  # a journal begins where nothing was planned before
    journal = Journal(directory)
    journal.start("instance a")
    (directory / "plan").rename(directory / "plan.json")
    for step in steps:
        journal.step(step)
        journal.write("begin", action="plan.MakeDir", **{"shell": "mkdir"})
        journal.write("end", seconds=0.5)
    journal.write("applied")


def appraised(data: bytes, asked: Request, digest: str | None = None) -> dict[str, Appraisal]:
    """What is claimed, by the label."""
    return {each.label: each for each in bundle.appraise(data, asked, digest)}


def unproven(data: bytes, asked: Request, digest: str | None = None) -> list[str]:
    """Ids of what is required and not proven."""
    return [name for appraisal in bundle.appraise(data, asked, digest) for name in appraisal.unproven]


def accepts(data: bytes, asked: Request) -> bool:
    found = bundle.appraise(data, asked, None)
    return bool(found) and all(appraisal.verified for appraisal in found)


def reasons(data: bytes, asked: Request) -> str:
    """What the findings say of what is not proven."""
    return "; ".join(claim.evidence for appraisal in bundle.appraise(data, asked, None) for claim in appraisal.claims
                     if claim.id in appraisal.unproven)


def forged(data: bytes, change: Callable[[dict[str, bytes]], Any]) -> bytes:
    """The bundle with its members changed by somebody who knows how to make the digests again."""
    members = unpack(data)
    del members[DIGESTS]
    change(members)
    return pack(sealed(members))
