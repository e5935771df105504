"""`vmtool key` and `vmtool model encrypt|inspect|verify`, as their users type them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.fakes.recorded import Recorded
from tests.unit.models.encryption.make import Owner, plain_file, plain_model
from vmtool.cli.main import vmtool
from vmtool.errors import Refused, VerificationFailed
from vmtool.findings import failing
from vmtool.models.encryption import commands
from vmtool.models.encryption.check_source import check_source
from vmtool.models.encryption.facts import read_encryption
from vmtool.models.encryption.inspect import inspect_model, open_manifest
from vmtool.models.encryption.keys import new_master
from vmtool.models.encryption.plan_encrypt import plan_encrypt
from vmtool.paths import State
from vmtool.plan import Plan, Remove


def run(*words: object) -> Result:
    return CliRunner().invoke(vmtool, [str(word) for word in words])


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


def test_keys_are_private_shown_without_themselves_and_never_replaced(tmp_path: Path) -> None:
    master, signer = tmp_path / "master.jwk", tmp_path / "signer.jwk"
    assert run("key", "generate", "-o", master).exit_code == 0
    assert run("key", "generate", "--sign", "-o", signer).exit_code == 0
    assert [path.stat().st_mode & 0o777 for path in (master, signer)] == [0o600, 0o600]
    again = run("key", "generate", "-o", master)
    assert isinstance(again.exception, Refused) and "never replaced" in str(again.exception)
    for path, secret in ((master, "k"), (signer, "d")):
        shown = run("key", "show", path)
        values = json.loads(path.read_text())
        assert values["kid"] in shown.output and values[secret] not in shown.output
    public = json.loads(run("key", "export-public", signer).output)
    assert public["x"] == json.loads(signer.read_text())["x"] and "d" not in public


def test_a_key_that_others_may_read_is_refused(owner: Owner, tmp_path: Path) -> None:
    owner.key.chmod(0o640)
    result = run("model", "encrypt", tmp_path, "-o", tmp_path / "out", "--key", owner.key, "--sign", owner.sign)
    assert isinstance(result.exception, Refused) and result.exception.hint == f"chmod 600 {owner.key}"


def test_what_was_encrypted_verifies(owner: Owner, tmp_path: Path) -> None:
    out = owner.model(plain_model(tmp_path / "m"), tmp_path / "out")
    public = tmp_path / "public.jwk"
    public.write_text(run("key", "export-public", owner.sign).output)
    shown = json.loads(run("model", "inspect", out, "--signer", public, "--json").output)
    assert [(each["name"], each["encrypted"]) for each in shown["files"]] == [
        ("config.json", False), ("model-00001-of-00002.safetensors", True), ("model-00002-of-00002.safetensors", True)]
    for more in ((), ("--data",), ("--key", owner.key)):
        result = run("model", "verify", out, "--signer", public, *more)
        assert result.exit_code == 0 and result.output.count("✓") == 3, result.output
    assert "every byte opens" in run("model", "verify", out, "--signer", public, "--key", owner.key).output


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


WEIGHTS = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(("change", "more"), [
    (lambda out: flip(out / "config.json", 3), ()),
    (lambda out: flip(out / WEIGHTS, 100), ()),
    (lambda out: flip(out / WEIGHTS, -1), ("--data",)),
    (lambda out: (out / WEIGHTS).write_bytes((out / WEIGHTS).read_bytes() + b"\0"), ()),
    (lambda out: (out / WEIGHTS).unlink(), ()),
    (lambda out: plain_file(out / WEIGHTS, {"head": ("F32", [2], b"12345678")}), ()),
    (lambda out: plain_file(out / "model-extra.safetensors"), ()),
    (lambda out: (out / "modeling_evil.py").write_text("import os"), ()),
    (lambda out: shutil.copy(out / "model-00001-of-00002.safetensors", out / WEIGHTS), ()),
], ids=["config", "header", "tensor", "longer", "absent", "plain", "one more", "code", "another shard"])
def test_what_was_changed_is_found(owner: Owner, tmp_path: Path, change: Callable[[Path], object],
                                   more: tuple[str, ...]) -> None:
    out = owner.model(plain_model(tmp_path / "m"), tmp_path / "out")
    change(out)
    result = run("model", "verify", out, "--signer", owner.sign, *more)
    assert isinstance(result.exception, VerificationFailed) and result.output.count("✗") == 1, result.output


def test_a_manifest_of_somebody_else_is_refused(owner: Owner, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    out = owner.model(plain_model(tmp_path / "m"), tmp_path / "out")
    for command in ("verify", "inspect"):
        result = run("model", command, out, "--signer", Owner(other).sign)
        assert isinstance(result.exception, VerificationFailed) and "not signed by" in str(result.exception)


@pytest.mark.parametrize("change", [
    lambda path: flip(path, 60), lambda path: path.write_bytes(b""),
    lambda path: [path.unlink(), path.mkdir()]], ids=["a byte", "empty", "a directory"])
def test_a_manifest_that_was_changed_is_exit_code_4_and_none_is_2(owner: Owner, tmp_path: Path,
                                                                  change: Callable[[Path], object]) -> None:
    out = owner.model(plain_model(tmp_path / "m"), tmp_path / "out")
    change(out / "vmtool-manifest.json")
    assert isinstance(run("model", "verify", out, "--signer", owner.sign).exception, VerificationFailed)
    shutil.rmtree(out)
    for what in ("no such directory", "not a directory"):
        refused = run("model", "verify", out, "--signer", owner.sign).exception
        assert isinstance(refused, Refused) and what in str(refused) and refused.hint.endswith(f"ls -l {tmp_path}")
        out.touch()
    out.unlink()
    out.mkdir()
    refused = run("model", "inspect", out, "--signer", owner.sign).exception
    assert isinstance(refused, Refused) and "--key MASTER --sign SIGNER" in refused.hint


MISSING = {
    "model encrypt m -o out --key master.jwk --sign none.jwk": "vmtool key generate --sign -o none.jwk",
    "model encrypt m -o out --key none.jwk --sign signer.jwk": "vmtool key generate -o none.jwk",
    "model encrypt m -o out --key signer.jwk --sign signer.jwk": "vmtool key generate -o master2.jwk",
    "model encrypt m -o out --key master.jwk --sign master.jwk": "vmtool key generate --sign -o signer2.jwk",
    "model verify out --signer none.jwk": "name the signer's public key",
    "model inspect out --signer master.jwk": "name the signer's public key",
    "model verify out --signer signer.jwk --key none.jwk": "name the master key that the model was encrypted with",
    "model rewrap out --key none.jwk --new-key master.jwk --sign signer.jwk": "name the master key that the model was",
    "model rewrap out --key master.jwk --new-key none.jwk --sign signer.jwk": "vmtool key generate -o none.jwk",
    "model rewrap out --key master.jwk --new-key master.jwk --sign none.jwk": "name the signing key that the model was",
    "key show none.jwk": "name a file that vmtool key generate made; to see what is there: ls -l ",
    "key show master.jwk/none": "name a file that vmtool key generate made",
    "key export-public master.jwk": "name a signing key",
    "key generate -o none/x.jwk": "mkdir -p none",
    "model encrypt m -o master.jwk --key master.jwk --sign signer.jwk": "choose another directory; to see",
    "model encrypt m -o master.jwk/x --key master.jwk --sign signer.jwk": "choose another directory; to see",
    "model rewrap master.jwk --key master.jwk --new-key master.jwk --sign signer.jwk": "name the model's directory",
}


@pytest.mark.parametrize("line", MISSING)
def test_a_hint_helps(owner: Owner, tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key opens no model and is not its signer; what is there already is not made."""
    monkeypatch.chdir(tmp_path)
    for module in ("encryption", "rewrap"):
        monkeypatch.setattr(f"vmtool.models.{module}.commands.LocalMachine", lambda: Recorded({}))
    plain_model(tmp_path / "m")
    (tmp_path / "state").mkdir()
    more = [] if line.startswith("key") or line.split()[1] in ("verify", "inspect") else ["--dry-run"]
    refused = run("--state-dir", tmp_path / "state", *line.split(), *more).exception
    assert isinstance(refused, Refused) and refused.hint.startswith(MISSING[line]), refused


def test_what_is_foreign_can_be_removed_as_the_hint_says(owner: Owner, tmp_path: Path) -> None:
    out = owner.model(plain_model(tmp_path / "m"), tmp_path / "out")
    (out / "more").mkdir()
    shown = run("model", "verify", out, "--signer", owner.sign)
    assert f"hint: rm -r {out}/more" in shown.output
    (out / "more").rename(out / os.fsdecode(b"it's \xff\n"))
    [found] = failing(inspect_model(out, open_manifest(out, owner.signer), owner.signer, data=False, master=None))
    assert found.hint == f"rm -r $'{out}/it\\x27s \\xff\\x0a'"


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_key_that_cannot_be_written_leaves_nothing(tmp_path: Path, call: str,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        assert isinstance(run("key", "generate", "-o", tmp_path / "master.jwk").exception, OSError)
    assert not list(tmp_path.iterdir())
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_mode))
    assert run("key", "generate", "-o", tmp_path / "master.jwk").exit_code == 0
    assert [stat.S_ISDIR(mode) for mode in synced] == [False, True]
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("master.jwk", 0o600)]


@pytest.mark.parametrize(("make", "wrong"), [
    (lambda directory: (directory / "pytorch_model.bin").write_bytes(b"x"), "model.clear"),
    (lambda directory: (directory / "modeling_x.py").write_text(""), "model.clear"),
    (lambda directory: (directory / "original").mkdir(), "model.regular"),
    (lambda directory: os.mkfifo(directory / "x.json"), "model.regular"),
    (lambda directory: (directory / "x.json").symlink_to("/etc/passwd"), "model.outside"),
    (lambda directory: [path.unlink() for path in directory.glob("*.safetensors")], "model.weights"),
    (lambda directory: shutil.rmtree(directory), "model.source"),
    (lambda directory: directory.with_name("out").symlink_to(directory), "model.target"),
    (lambda directory: [(directory / name).mkdir() for name in ("blobs", "refs", "snapshots")], "model.cache"),
], ids=["pickle", "code", "directory", "pipe", "link", "no weights", "absent", "into itself", "a whole cache"])
def test_what_cannot_be_encrypted(owner: Owner, tmp_path: Path, make: Callable[[Path], object], wrong: str) -> None:
    source, target = plain_model(tmp_path / "m"), tmp_path / "out"
    make(source)
    facts = read_encryption(Recorded({}), source, target, owner.master, owner.signer)
    assert [each.id for each in failing(check_source(facts, source, target))] == [wrong]


@pytest.mark.parametrize(("source", "target"), [("m", "m"), ("m", "m/out"), ("m/in", "m"), ("m", "m/../m")])
def test_a_model_is_never_encrypted_into_its_own_place(owner: Owner, tmp_path: Path, source: str, target: str) -> None:
    """Its weights would be gone."""
    (tmp_path / source).parent.mkdir(exist_ok=True)
    plain_model(tmp_path / source)
    facts = read_encryption(Recorded({}), tmp_path / source, tmp_path / target, owner.master, owner.signer)
    [found] = failing(check_source(facts, tmp_path / source, tmp_path / target))
    assert found.id == "model.target" and "would take the place of the plain one" in found.detail


def test_a_disk_of_its_own_is_a_models_place(owner: Owner, tmp_path: Path) -> None:
    source, target = plain_model(tmp_path / "m"), tmp_path / "out"
    for directory in (source, target):
        directory.mkdir(exist_ok=True)
        (directory / "lost+found").mkdir()
    facts = read_encryption(Recorded({}), source, target, owner.master, owner.signer)
    assert not failing(check_source(facts, source, target))


def test_a_hub_cache_is_read_through_its_links(owner: Owner, tmp_path: Path) -> None:
    model = tmp_path / "models--o--n"
    (model / "blobs").mkdir(parents=True)
    snapshot = model / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    plain_file(model / "blobs" / "d1", {"head": ("F32", [2], b"12345678")})
    (snapshot / "model.safetensors").symlink_to("../../blobs/d1")
    facts = read_encryption(Recorded({}), snapshot, tmp_path / "out", owner.master, owner.signer)
    assert not failing(check_source(facts, snapshot, tmp_path / "out"))
    assert facts.files and facts.files[0].path == model / "blobs" / "d1"


def test_what_is_done_stays_and_a_changed_source_is_done_again(owner: Owner, tmp_path: Path) -> None:
    """Interrupted before the manifest."""
    source, target = plain_model(tmp_path / "m"), tmp_path / "out"
    target.mkdir()
    owner.encrypt(source / WEIGHTS, target / WEIGHTS)

    def skipped() -> list[str]:
        facts = read_encryption(Recorded({}), source, target, owner.master, owner.signer)
        made = plan_encrypt(State(tmp_path / "s"), facts, source, target, (owner.key, owner.sign), owner.master,
                            owner.signer)
        return [step.title for step in made.steps if step.skip]

    assert skipped() == [f"encrypt {WEIGHTS}"]
    (source / WEIGHTS).touch()
    assert skipped() == []


def encrypt(owner: Owner, source: Path, target: Path) -> Plan:
    """What `vmtool model encrypt` would do."""
    facts = read_encryption(Recorded({}), source, target, owner.master, owner.signer)
    return plan_encrypt(State(target.parent / "s"), facts, source, target, (owner.key, owner.sign), owner.master,
                        owner.signer)


def retrained(source: Path, name: str = "head") -> None:
    """Other weights, of the same names, shapes and time."""
    before = (source / WEIGHTS).stat()
    plain_file(source / WEIGHTS, {name: ("F32", [2], b"87654321")})
    os.utime(source / WEIGHTS, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("change", "how"), [
    (lambda one: (one / "config.json").write_text('{"architectures": ["QwenForCausalLMxx"]}'), "config.json: the"),
    (lambda one: (one / "more.json").write_text("{}"), "more.json: only the source"),
    (lambda one: (one / "config.json").unlink(), "config.json: only the encrypted model"),
    (lambda one: plain_file(one / WEIGHTS, {"tail": ("F32", [2], b"12345678")}), f"{WEIGHTS}: the source was changed"),
    (lambda one: retrained(one, "tail"), f"{WEIGHTS}: the source has other tensors"),
    (lambda one: (one / WEIGHTS).touch(), f"{WEIGHTS}: the source was changed since"),
    (retrained, f"{WEIGHTS}: the source has another tensor 'head'"),
    (lambda one: flip(one.parent / "out" / "config.json", 3), "config.json: not the file that was signed"),
    (lambda one: flip(one.parent / "out" / WEIGHTS, -1), f"{WEIGHTS}: its bytes were changed"),
    (lambda one: flip(one.parent / "out" / "vmtool-manifest.json", 40), "vmtool-manifest.json: "),
], ids=["clear", "one more", "one less", "in place", "tensors", "touched", "retrained", "made clear", "made",
        "manifest"])
def test_a_signed_model_is_kept_for_its_own_source_only(owner: Owner, tmp_path: Path, change: Callable[[Path], object],
                                                        how: str) -> None:
    source = plain_model(tmp_path / "m")
    out = owner.model(source, tmp_path / "out")
    assert [bool(step.skip) for step in encrypt(owner, source, out).steps] == [True]
    change(source)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(Refused) as refused:
        encrypt(owner, source, out)
    assert how in refused.value.message and refused.value.hint.endswith(f"rm -r {out}")
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_signed_model_of_another_key_is_not_overwritten(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    source = plain_model(tmp_path / "m")
    out = owner.model(source, tmp_path / "out")
    with pytest.raises(Refused, match="not signed by"):
        encrypt(Owner(tmp_path / "other"), source, out)
    owner.master = new_master("aes256gcm")
    with pytest.raises(Refused, match="the key does not open this file"):
        encrypt(owner, source, out)


def test_a_model_that_was_encrypted_before_is_kept_too(owner: Owner, tmp_path: Path) -> None:
    """Taken over as it is, as of files by cryptotensors' own calls."""
    source = owner.model(plain_model(tmp_path / "m"), tmp_path / "first")
    (source / "vmtool-manifest.json").unlink()
    out = owner.model(source, tmp_path / "out")
    assert [bool(step.skip) for step in encrypt(owner, source, out).steps] == [True]
    owner.encrypt(tmp_path / "m" / WEIGHTS, source / WEIGHTS)
    os.utime(source / WEIGHTS, (1, 1))
    (source / f".{WEIGHTS}.vmtool-done").unlink()
    with pytest.raises(Refused, match="the source has another header"):
        encrypt(owner, source, out)


def test_an_end_right_after_the_signature_leaves_nothing_for_good(owner: Owner, tmp_path: Path) -> None:
    source = plain_model(tmp_path / "m")
    out = owner.model(source, tmp_path / "out")
    left = [out / f".{WEIGHTS}.vmtool-done", out / ".vmtool-manifest.json.7fffffff.tmp",
            out / "..config.json.vmtool-done.7fffffff.tmp"]
    for path in left:
        path.write_text("{}")
    done, gone = encrypt(owner, source, out).steps
    assert done.skip and {action.path for action in gone.actions if isinstance(action, Remove)} == set(left)
    (out / ".mine.vmtool-done").write_text("somebody else's")
    with pytest.raises(Refused, match="is not of this model"):
        encrypt(owner, source, out)


def test_no_key_is_in_the_plan(owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LocalMachine", lambda: Recorded({}))
    source = plain_model(tmp_path / "m")
    shown = run("--state-dir", tmp_path / "s", "model", "encrypt", source, "-o", tmp_path / "out", "--key", owner.key,
                "--sign", owner.sign, "--dry-run")
    assert shown.exit_code == 0 and "encrypt model-00001-of-00002.safetensors" in shown.output
    secrets = (json.loads(owner.key.read_text())["k"], json.loads(owner.sign.read_text())["d"])
    assert not any(secret in shown.output for secret in secrets)
