"""Foreign files and texts: nothing is waited for, nothing is read without end, and nothing is a fault of vmtool's."""

from __future__ import annotations

import ast
import io
import os
import stat
import struct
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sources import parsed
from vmtool import documents, foreign
from vmtool.doctor.compare import read_document
from vmtool.errors import Refused
from vmtool.host.local import LocalHost
from vmtool.image.archive import read_archive
from vmtool.image.facts import is_intact
from vmtool.kata import document
from vmtool.models.facts import read_model
from vmtool.proof.image import read_promise
from vmtool.rootfs.format.digest import content_digest, sha256
from vmtool.rootfs.format.qcow2 import read_qcow2_problem
from vmtool.rootfs.metadata.lock_file import read_lock
from vmtool.rootfs.metadata.manifest import read_manifest

ROOT = Path(__file__).parents[2]
DEEP = "[" * 200_000
# What opens a file that somebody names, or that lies beside one: each is given a path where a pipe is.
OPENERS: dict[str, Callable[[Path], object]] = {
    "a spec": documents.read, "a document of doctor": read_document, "an archive": read_archive,
    "Kata's configuration": document.read, "a lock file": read_lock, "a manifest": read_manifest,
    "an image's digest": sha256, "an image's content": content_digest, "a qcow2": read_qcow2_problem,
    "an API key": LocalHost().read, "a wheel": foreign.open_file, "a read in pieces": lambda path: list(
        foreign.read_regular(path, 1)),
}


def bounded(work: Callable[[], object]) -> object:
    """Its result or error; a thread that still waits is left behind, and fails the test."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert results, "it waits for whoever put a pipe there"
    return results[0]


@pytest.mark.parametrize("opens", OPENERS.values(), ids=OPENERS)
@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, opens: Callable[[Path], object], kind: int) -> None:
    path = tmp_path / "foreign"
    path.mkdir() if kind == stat.S_IFDIR else os.mknod(path, kind | 0o600)
    assert isinstance(bounded(lambda: opens(path)), Refused | OSError)


@pytest.mark.parametrize("name", ["config.json", "canary.json"])
def test_a_pipe_in_a_model_holds_nobody_up(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / name)
    monkeypatch.setattr(LocalHost, "run", lambda *words, **options: None)
    monkeypatch.setattr("vmtool.models.facts._mounts", lambda reader, path: ())
    facts = bounded(lambda: read_model(LocalHost(), str(tmp_path)))
    assert (facts.architecture, facts.canary) == ("", None)  # type: ignore[attr-defined]


def test_a_pipe_beside_an_image_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "i.manifest.json")
    promise = bounded(lambda: read_promise(LocalHost(), str(tmp_path / "i")))
    assert (promise.digest, promise.root_hash) == ("", "")  # type: ignore[attr-defined]


def test_a_pipe_beside_a_cached_file_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("")
    os.mkfifo(tmp_path / "a.sha256")
    assert bounded(lambda: is_intact(tmp_path / "a.tar")) is False


def test_a_text_and_the_end_of_a_log_are_bounded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    assert bounded(lambda: LocalHost().text(str(tmp_path / "p"))) is None
    assert bounded(lambda: LocalHost().tail(tmp_path / "p")) == []
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    assert len(LocalHost().text(str(tmp_path / "large")) or "") == 4 << 20


@pytest.mark.parametrize("parse", [foreign.parse_json, lambda text: foreign.parse_json(f'{{"a": {text}')])
def test_deep_json_is_a_value_error(parse: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(DEEP)


@pytest.mark.parametrize(("text", "value"), [
    (r'{"a": "\ud800", "\uDC00": [1]}', {"a": "\ufffd", "\ufffd": [1]}), (r'"\ud83d\ude00"', "\U0001f600"),
    (r'"\\ud800"', r"\ud800"),
    (rb'["\uDFFF x"]', ["\ufffd x"]),
])
def test_half_of_a_character_goes_into_no_file(text: str | bytes, value: object) -> None:
    """What is kept as evidence, or printed, is UTF-8, which has no place for it."""
    assert foreign.parse_text_json(text) == value


@pytest.mark.parametrize("text", [None, "= x", f"a = {DEEP}", "a" + ".a" * 100_000 + " = 1", "a = 1979-99-99"])
def test_toml_that_is_none_has_no_tables(text: str | None) -> None:
    assert foreign.parse_toml(text) == {}


def pax(size: int, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """The header of an extended header that says it has this size."""
    info = tarfile.TarInfo("x")
    info.type = kind
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("start", [pax(8 << 30), pax(8 << 30, tarfile.XGLTYPE), pax(8 << 30, tarfile.GNUTYPE_LONGNAME)])
def test_a_sparse_archive_with_a_huge_header_is_not_read_whole(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(start)
    os.truncate(path, 9 << 30)
    with pytest.raises(Refused, match="a header that is too large"):
        read_archive(path)


def test_headers_are_bounded_in_all(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        for _ in range(40):
            file.write(pax(2 << 20))
            file.seek(2 << 20, os.SEEK_CUR)
        file.write(bytes(1024))
    with pytest.raises(Refused, match="no image archive"):
        read_archive(path)


def test_a_bounded_file_gives_what_is_there() -> None:
    file = foreign.BoundedFile(io.BytesIO(struct.pack("8s", b"content")), at_once=4, in_all=10)
    assert (file.read(4), file.tell(), file.seek(2), file.read(4)) == (b"cont", 4, 2, b"nten")
    for size in (-1, 5, 3):
        with pytest.raises(ValueError, match="too large"):
            file.read(size)


# Where else files are opened, or texts parsed, and why that may be.
OWN = {
    "vmtool/host": "the machine itself",
    "vmtool/serving": "runs in the guest, on what it was given",
    "vmtool/engine": "journals and logs of vmtool's own, in a state directory that is root's",
    "vmtool/foreign.py": "the one way",
    "vmtool/kata/document.py": "a parser with bounds of its own",
    "vmtool/attest/foreign_json.py": "likewise, for evidence",
    "vmtool/rendering.py": "files of the package", "vmtool/kata/keys.py": "files of the package",
    "vmtool/spec/kata_releases.py": "files of the package", "vmtool/spec/commands.py": "files of the package",
    "vmtool/instance/instance.py": "the state directory", "vmtool/proof/evidence.py": "the state directory",
    "vmtool/launch/commands/logs.py": "the state directory",
    "vmtool/spec/facts.py": "the state directory", "vmtool/watch/facts.py": "the state directory",
    "vmtool/libvirt/workers/workload_disk.py": "the state directory",
    "vmtool/kata/install.py": "a file below /etc, just parsed",
    "vmtool/facts/kvm_probe.py": "a device",
    "vmtool/models/workers/copy_files.py": "a new file that it makes",
    "vmtool/models/workers/encrypt_file.py": "a new file that it makes",
    "vmtool/models/workers/rewrap_file.py": "a new file that it makes",
    "vmtool/rootfs": "scratch files that a build or a worker made itself; images are opened by leases or `foreign`",
}
PARSERS = {"json.loads", "json.load", "tomllib.loads", "tomllib.load"}
READS = {"read_text", "read_bytes"}


def calls(path: Path) -> list[str]:
    """What opens a file by its name to read it, or parses, without `vmtool.foreign`."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in PARSERS or called == "open" or called.rpartition(".")[2] in READS:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {called}")
    return found


def test_foreign_files_are_opened_and_parsed_in_one_way() -> None:
    found = [call for path in sorted((ROOT / "vmtool").rglob("*.py")) for call in calls(path)
             if not any(str(path.relative_to(ROOT)).startswith(own) for own in OWN)]
    assert not found, "open it with vmtool.foreign, or say in OWN whose file it is"


def test_it_would_see_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "x.py").write_text("a = path.read_text()\nb = open('x')\nc = json.loads(a)\n")
    assert [call.rpartition(" ")[2] for call in calls(tmp_path / "x.py")] == ["path.read_text", "open", "json.loads"]
