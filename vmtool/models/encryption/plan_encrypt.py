"""The plan that encrypts a model: file after file, then the manifest.

What is done stays when it fails: a file appears whole, is of no use without the key, and the next try goes on there. A
directory without a manifest is no model to any reader.
"""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.findings import refuse
from vmtool.models.encryption.check_source import check_source
from vmtool.models.encryption.facts import EncryptionFacts, SourceFile
from vmtool.models.encryption.progress import new_path
from vmtool.models.plan_model import work_dir
from vmtool.models.workers import copy_file, encrypt_file, sign_manifest
from vmtool.paths import State
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import WEIGHTS

# Seconds for a file: slow network storage, with room.
DEADLINE = 24 * 3600


def plan_encrypt(state: State, facts: EncryptionFacts, source: Path, target: Path, keys: tuple[Path, Path],
                 master: MasterKey, signer: Signer) -> p.Plan:
    """From a model's directory to an encrypted one.

    Args:
        keys: the files of the master key and the signing key.

    Raises:
        Refused: the source cannot be encrypted, or something else is in the target.
    """
    refuse(list(check_source(facts, source, target)), f"{source} was not encrypted", "correct what is named")
    subject, directory = f"encrypted model {target}", work_dir(state, target, "encrypt")
    if facts.whole:
        return p.Plan(subject, directory, (p.Step("encrypt the model", skip=f"{target} is signed and whole"),))
    files = facts.files or ()
    first = p.Step(f"make {target}", (p.MakeDir(target, mode=0o755),))
    last = p.Step("sign the manifest", (
        p.run_worker(sign_manifest.Order(target, tuple(each.name for each in files), keys[1])),))
    return p.Plan(subject, directory, (first, *(_step(each, target, keys, master, signer) for each in files), last))


def _step(each: SourceFile, target: Path, keys: tuple[Path, Path], master: MasterKey, signer: Signer) -> p.Step:
    weights, place = each.name.endswith(WEIGHTS), target / each.name
    title = f"{'encrypt' if weights else 'copy'} {each.name}"
    names = (master.kid, signer.kid) if weights else ("", "")
    if each.done and each.done.source == each.state and (each.done.kid, each.done.signer) == names:
        return p.Step(title, skip="done before")
    order = encrypt_file.Order(each.path, place, *keys) if weights else copy_file.Order(each.path, place)
    return p.Step(title, (p.run_worker(order, deadline=DEADLINE),), undo=(p.Remove(new_path(place)),))
