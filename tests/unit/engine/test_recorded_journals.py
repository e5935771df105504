"""What an earlier vmtool left on a machine is read, and can be undone: tests/data/journals, instances and records."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.fakes.recorded import Recorded
from vmtool.cli.main import vmtool
from vmtool.engine.journal import NAME, Journal
from vmtool.gpu.saved_state import read_records, records
from vmtool.instance.read import EARLIER_DETAILS, read_instance
from vmtool.libvirt.workers.end_domain import Order as EndDomain
from vmtool.net.network import attachment_of, network_of
from vmtool.paths import State
from vmtool.plan import RunWorker, kind_of, run_worker
from vmtool.plan.action import EARLIER, EARLIER_PROGRAMS
from vmtool.plan.workers import PROGRAM
from vmtool.records import record_of
from vmtool.rootfs.grow.workers import roll_back
from vmtool.spec.published_port import Publish
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import digest

WRITTEN_AS = {new: old for old, new in EARLIER.items()} | {"plan.RunWorker": "Run"}
DATA = Path(__file__).parents[2] / "data"
JOURNALS = tuple(sorted(path.stem for path in (DATA / "journals").glob("*.jsonl")))
HANDLERS = tuple(sorted(path.name for path in (DATA / "instances").iterdir()))


def expected(name: str) -> dict[str, Any]:
    """What the vmtool that wrote it would have done, with its own programs as the workers of today."""
    found: dict[str, Any] = json.loads((DATA / "journals" / f"{name}.expected.json").read_text())
    for entry in found["entries"]:
        entry["undo"] = [[kind, today(line)] for kind, line in entry["undo"]]
    return found


def today(line: str) -> str:
    """The line of a program of 0.1's as a worker's, and of a worker with today's Python."""
    line = line.replace("/opt/vmtool/.venv/bin/python -I -m vmtool.engine.worker", shlex.join(PROGRAM))
    words = shlex.split(line) if line.startswith("/opt/vmtool/.venv/bin/python -I -m ") else []
    if not words:
        return line
    if words[3] == "vmtool.host.domains":
        return end_domain(*words[4:])
    assert words[3] == "vmtool.host.wayback"
    return run_worker(roll_back.Order(Path(words[4]))).shell()


def end_domain(uri: str, verb: str, name: str) -> str:
    assert verb == "end"
    return run_worker(EndDomain(uri, name)).shell()


def placed(name: str, directory: Path) -> Path:
    """A journal as it lies in its subject's directory."""
    directory.mkdir(parents=True)
    shutil.copy(DATA / "journals" / f"{name}.jsonl", directory / NAME)
    return directory


def test_there_is_a_journal_of_each_kind_of_launch_and_of_what_else_changes_a_host() -> None:
    assert set(JOURNALS) == {"launch-runc", "launch-kata", "launch-libvirt", "gpu-bind", "net-add", "rootfs-build",
                             "rootfs-resize", "rootfs-resize-copy", "image-build", "every-kind"}


def test_together_they_hold_every_kind_of_action() -> None:
    held = {kind for name in JOURNALS for entry in expected(name)["entries"] for kind, _ in entry["undo"]}
    assert held == set(EARLIER)


@pytest.mark.parametrize("name", JOURNALS)
def test_an_earlier_journal_is_read_as_it_was_meant(name: str, tmp_path: Path) -> None:
    replayed = Journal(placed(name, tmp_path / "subject")).replay()
    assert {"state": replayed.state, "subject": replayed.subject, "error": replayed.error, "entries": [
        {"number": entry.number, "title": entry.title,
         "undo": [[WRITTEN_AS[kind_of(type(action))], action.shell()] for action in entry.undo]}
        for entry in replayed.entries]} == expected(name)


def test_the_programs_that_an_earlier_journal_undoes_with_are_workers_today(tmp_path: Path) -> None:
    """Their orders are ones that the workers take, and the deadline is what it was."""
    entries = [entry for name in JOURNALS for entry in Journal(placed(name, tmp_path / name)).replay().entries]
    workers = [action for entry in entries for action in entry.undo if isinstance(action, RunWorker)]
    assert {action.name for action in workers} == {name for name, _ in EARLIER_PROGRAMS.values()}
    known = {"libvirt.end_domain": EndDomain, "rootfs.grow.roll_back": roll_back.Order}
    assert [record_of(known[action.name], json.dumps(action.order)) for action in workers] == [
        EndDomain("qemu:///system", "vmtool-chat"), roll_back.Order(Path("/images/guest.img"))]
    assert [action.deadline for action in workers] == [90.0, 3600]


@pytest.mark.parametrize("name", JOURNALS)
def test_recover_shows_the_lines_that_undo_an_earlier_journal(name: str, tmp_path: Path) -> None:
    """As it is typed after an upgrade: newest step first, and nothing of one that ended well."""
    told = expected(name)
    placed(name, tmp_path / "instances" / "subject")
    result = CliRunner().invoke(vmtool, ["--state-dir", str(tmp_path), "recover", "--dry-run"])
    assert (result.exit_code, result.exception) == (0, None)
    if told["state"] == "applied":
        assert (result.stdout, result.stderr) == ("", "nothing to recover\n")
        return
    shown = [f"# {told['subject']}"]
    for entry in reversed(told["entries"]):
        shown += [f"# undo: {entry['title']}", *(line for _, line in entry["undo"])]
    assert result.stdout == "\n".join(shown) + "\n"


@pytest.mark.parametrize("handler", HANDLERS)
def test_an_earlier_instance_is_known(handler: str, tmp_path: Path) -> None:
    state, written = State(tmp_path), json.loads((DATA / "instances" / handler / "instance.json").read_text())
    directory = placed(f"launch-{handler}", state.instance(written["name"]))
    shutil.copy(DATA / "instances" / handler / "instance.json", directory)
    instance = read_instance(state, written["name"])
    assert (instance.state, instance.known().handler) == ("stopped", handler)
    known = json.loads(json.dumps(asdict(instance.known())))
    details = known.pop("details")
    rendered = {"kata": str(directory / "kata" / "configuration.toml"),
                "libvirt": str(Path(written["kernel"]).parent / "domain.xml")}.get(handler)
    assert details.pop("rendered", None) == rendered
    assert {known.pop(name) for name in ("image_digest", "image_chain", "image_origin")} == {""}
    assert [known.pop(name) for name in ("manage", "tls", "client_certificate", "slot")] == [0, False, False, ""]
    # What it had side by side is the launcher's own today.
    assert known | dict.fromkeys(EARLIER_DETAILS, "") | details == written


def test_there_is_an_instance_of_each_launcher() -> None:
    assert HANDLERS == ("kata", "libvirt", "runc")


@pytest.mark.parametrize("handler", HANDLERS)
def test_the_spec_of_an_earlier_launch_is_recognised(handler: str) -> None:
    """Else `run` of the same file, after an upgrade, is refused: it would seem to be another spec."""
    spec, record = ((DATA / "instances" / handler / f"{name}.json").read_text() for name in ("spec", "instance"))
    assert digest(Spec.model_validate_json(spec)) == json.loads(record)["digest"]


def test_an_earlier_record_of_a_bound_device_tells_where_it_came_from() -> None:
    state, text = State(Path("/s")), (DATA / "records" / "gpu-device.json").read_text()
    found = read_records(Recorded({"texts": {f"{records(state)}/0000:2a:00.0": text}}), state)["0000:2a:00.0"]
    assert asdict(found) == {"bdf": "0000:2a:00.0", "driver": "nvidia", "module": "nvidia", "override": "",
                             "power_control": "on", "d3cold_allowed": "1", "bound_to": "vfio-pci", "owner": None}


def test_earlier_records_of_a_network_are_read() -> None:
    network = network_of((DATA / "records" / "network.json").read_text())
    assert network and (network.name, network.bridge, network.subnet, network.owner) == (
        "lab", "vmt-lab", "10.55.0.0/24", "")
    attached = attachment_of((DATA / "records" / "net-attachment.json").read_text())
    assert attached and (attached.network, attached.container_id, attached.netns, attached.publish) == (
        "lab", "lab", "lab", (Publish(18000, 8000),))
