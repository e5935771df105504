"""The plan that encrypts a model: file after file, then the manifest.

What is done stays when it fails: a file appears whole, is of no use without the key, and the next try goes on there. A
directory without a manifest is no model to any reader.
"""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.findings import refuse
from vmtool.models.encryption.check_source import check_source
from vmtool.models.encryption.facts import EncryptionFacts
from vmtool.models.encryption.progress import SourceFile, new_path
from vmtool.models.encryption.source_facts import SAMPLES
from vmtool.models.plan_copy import DEADLINE, plan_copy
from vmtool.models.plan_model import work_dir
from vmtool.models.workers import encrypt_file, sign_manifest
from vmtool.paths import State
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import WEIGHTS

# What was compared, and no more.
_KEPT = ("{target} is signed, the key opens it, and it is as the source in what was compared: the files in clear, "
         f"names and shapes of tensors, up to {SAMPLES} pieces of each file of weights")


def plan_encrypt(state: State, facts: EncryptionFacts, source: Path, target: Path, keys: tuple[Path, Path],
                 master: MasterKey, signer: Signer) -> p.Plan:
    """From a model's directory to an encrypted one.

    Args:
        keys: the files of the master key and the signing key.

    Raises:
        Refused: the source cannot be encrypted, or something else is in the target.
    """
    refuse(list(check_source(facts, source, target)), f"{source} was not encrypted")
    subject, directory = f"encrypted model {target}", work_dir(state, target, "encrypt")
    if facts.signed:
        left = (p.Step("remove the notes on the way", tuple(p.Remove(target / name) for name in facts.leftover)),)
        return p.Plan(subject, directory, (
            p.Step("encrypt the model", skip=_KEPT.format(target=target)), *(left if facts.leftover else ())))
    files = facts.files or ()
    first = p.Step(f"make {target}", (p.MakeDir(target, mode=0o755),))
    last = p.Step("sign the manifest", (
        p.run_worker(sign_manifest.Order(target, tuple(each.name for each in files), keys[1])),))
    done = [each for each in files if _is_done(each, master, signer)]
    todo = [each for each in files if each not in done]
    return p.Plan(subject, directory, (
        first, *(p.Step(f"{'encrypt' if each.name.endswith(WEIGHTS) else 'copy'} {each.name}", skip="done before")
                 for each in done),
        *plan_copy([(each.path, target / each.name) for each in todo if not each.name.endswith(WEIGHTS)]),
        *(_encrypt(each, target, keys) for each in todo if each.name.endswith(WEIGHTS)), last))


def _is_done(each: SourceFile, master: MasterKey, signer: Signer) -> bool:
    names = (master.kid, signer.kid) if each.name.endswith(WEIGHTS) else ("", "")
    return bool(each.done and each.done.source == each.state and (each.done.kid, each.done.signer) == names)


def _encrypt(each: SourceFile, target: Path, keys: tuple[Path, Path]) -> p.Step:
    order = encrypt_file.Order(each.path, target / each.name, *keys)
    return p.Step(f"encrypt {each.name}", (p.run_worker(order, deadline=DEADLINE),),
                  undo=(p.Remove(new_path(target / each.name)),))
