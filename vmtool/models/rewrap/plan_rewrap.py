"""The plan that gives a model another key: the new model comes whole next to the old one, then takes its place.

At any moment the directory is the old model or the new one. What is done stays when it fails: the next try goes on.
"""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.findings import refuse
from vmtool.models.encryption.progress import new_path
from vmtool.models.plan_copy import DEADLINE, plan_copy
from vmtool.models.plan_model import work_dir
from vmtool.models.rewrap.check import check_rewrap
from vmtool.models.rewrap.facts import RewrapFacts, RewrapFile, new_directory
from vmtool.models.workers import replace_model, rewrap_file, sign_manifest
from vmtool.paths import State
from vmtool.serving.cryptotensors.jwk import MasterKey


def plan_rewrap(state: State, facts: RewrapFacts, directory: Path, files: tuple[Path, Path, Path],
                keys: tuple[MasterKey, MasterKey]) -> p.Plan:
    """From a model that the old key opens to one that the new key opens.

    Args:
        files: of the old key, the new key and the signing key.

    Raises:
        Refused: it cannot be done to this model.
    """
    subject, work, new = f"encrypted model {directory}", work_dir(state, directory, "rewrap"), new_directory(directory)
    encrypted = [each for each in facts.files if each.encrypted]
    gone = (p.Step(f"remove {new}", (p.Remove(new),)),) if facts.leftover else ()
    if encrypted and all(each.rewrapped for each in encrypted) and keys[0].secret != keys[1].secret:
        return p.Plan(subject, work, (p.Step("wrap the keys", skip="the new key opens it already"), *gone))
    refuse(list(check_rewrap(facts, directory, keys)), f"{directory} was not rewrapped")
    made = (p.Step("wrap the keys", skip="done before"),) if facts.signed else _made(facts, directory, new, files)
    return p.Plan(subject, work, (
        *made, p.Step(f"put it into the place of {directory}", (p.run_worker(replace_model.Order(directory, new)),)),
        p.Step("remove the old model", (p.Remove(new),))))


def _made(facts: RewrapFacts, directory: Path, new: Path, files: tuple[Path, Path, Path]) -> tuple[p.Step, ...]:
    sign = p.run_worker(sign_manifest.Order(new, tuple(each.name for each in facts.files), files[2], directory))
    todo = [each for each in facts.files if not each.done]
    return (p.Step(f"make {new}", (p.MakeDir(new, mode=facts.mode, uid=facts.uid),)),
            *(p.Step(f"{'wrap the keys of' if each.encrypted else 'copy'} {each.name}", skip="done before")
              for each in facts.files if each.done),
            *plan_copy([(directory / each.name, new / each.name) for each in todo if not each.encrypted]),
            *(_wrap(each, directory, new, files) for each in todo if each.encrypted),
            p.Step("sign the manifest", (sign,)))


def _wrap(each: RewrapFile, directory: Path, new: Path, files: tuple[Path, Path, Path]) -> p.Step:
    order = rewrap_file.Order(directory / each.name, new / each.name, *files)
    return p.Step(f"wrap the keys of {each.name}", (p.run_worker(order, deadline=DEADLINE),),
                  undo=(p.Remove(new_path(new / each.name)),))
