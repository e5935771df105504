"""Whether a model can be given another key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import shell_word
from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.models.rewrap.facts import RewrapFacts
from vmtool.serving.cryptotensors.jwk import MasterKey


def check_rewrap(facts: RewrapFacts, directory: Path, keys: tuple[MasterKey, MasterKey]) -> Iterator[Finding]:
    """Every reason not to."""
    old, new = keys
    if old.secret == new.secret:
        yield wrong_input("rewrap.key", "the new key is the old one", "vmtool key generate -o new.jwk")
    if old.algorithm != new.algorithm:
        yield wrong_input("rewrap.algorithm", f"the old key is for {old.algorithm}, the new one for {new.algorithm}",
                          f"vmtool key generate --alg {old.algorithm} -o new.jwk")
    for each in facts.files:
        if each.state is None:
            yield wrong_input("rewrap.file", f"{directory / each.name}: not there as a regular file",
                              "get the file again from the model's owner")
        elif each.problem:
            yield wrong_input("rewrap.file", f"{directory / each.name}: {each.problem}")
    for name in facts.foreign:
        yield wrong_input("rewrap.foreign", f"{directory / name}: is not of this model",
                          f"move it away: mv {shell_word(directory / name)} /somewhere/else")
    if facts.mounted:
        yield wrong_input("rewrap.mounted", f"{directory}: a file system is mounted there, so no new model can take "
                          "its place at one moment",
                          f"rewrap a copy: cp -r {shell_word(directory)} /somewhere/else")
    size = sum(each.size for each in facts.files if each.done is None)
    if facts.free is not None and size > facts.free:
        yield host_lacks("rewrap.space", f"{directory.parent}: the new files have {size >> 20} MiB until the old ones "
                         f"go, and {facts.free >> 20} MiB are free")
