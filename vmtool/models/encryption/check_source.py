"""Whether a model's directory can be encrypted: weights in safetensors, and no others, nor code, beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vmtool.errors import shell_word
from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.models.encryption.facts import EncryptionFacts
from vmtool.models.encryption.progress import SourceFile
from vmtool.serving.cryptotensors.manifest import FILE, WEIGHTS, is_clear

# What a model's directory has in such a cache.
CACHED = {"blobs", "snapshots"}


def check_source(facts: EncryptionFacts, source: Path, target: Path) -> Iterator[Finding]:
    """Every reason not to."""
    if facts.files is None:
        yield wrong_input("model.source", f"{source}: not a directory that can be read")
        return
    if facts.overlaps:
        yield wrong_input("model.target", f"{target}: is the model's own directory, or one is in the other: the "
                          "encrypted model would take the place of the plain one", "choose another directory")
        return
    if facts.blocked:
        yield wrong_input("model.target", f"{facts.blocked}: is there, and not a directory",
                          f"choose another directory; to see what it is: ls -l {shell_word(facts.blocked)}")
        return
    if {each.name for each in facts.files} >= CACHED:
        yield wrong_input("model.cache", f"{source}: a model of a Hugging Face cache, which has one snapshot of it or "
                          "several: name one of them", f"ls {shell_word(source / 'snapshots')}")
        return
    if not any(each.name.endswith(WEIGHTS) for each in facts.files):
        yield wrong_input("model.weights", f"{source}: no {WEIGHTS} file in it",
                          "convert the model: AutoModel.from_pretrained(...).save_pretrained(DIR)")
    for each in facts.files:
        yield from _check_file(source / each.name, each)
    if facts.other:
        yield wrong_input("model.other", f"{target}: has a signed model already, which is not that of {source}: "
                          f"{facts.other}", f"choose another directory, or remove it: rm -r {shell_word(target)}")
        return
    yield from _check_target(facts, facts.files, target)


def _check_target(facts: EncryptionFacts, files: Sequence[SourceFile], target: Path) -> Iterator[Finding]:
    for name in facts.foreign:
        yield wrong_input("model.target", f"{target / name}: is not of this model", "choose another directory")
    size = sum(each.state.size for each in files if each.state and not each.done and not facts.signed)
    if facts.free is not None and size > facts.free:
        yield host_lacks("model.space", f"{target}: {size >> 20} MiB are to come, and {facts.free >> 20} MiB are free")


def _check_file(path: Path, each: SourceFile) -> Iterator[Finding]:
    if not FILE.fullmatch(each.name):
        yield wrong_input("model.name", f"{path}: a name with characters that do not belong there")
    elif each.outside:
        yield wrong_input("model.outside", f"{path}: a link that leads out of the model", "put the file itself there")
    elif not each.regular:
        yield wrong_input("model.regular", f"{path}: not a regular file", "an encrypted model has no directories in it")
    elif not each.name.endswith(WEIGHTS) and not is_clear(each.name):
        yield wrong_input("model.clear", f"{path}: may hold weights or code, which would lie in clear beside the model",
                          "remove it from the directory; only safetensors are encrypted")
