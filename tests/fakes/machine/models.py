"""Workers on models: what they make is told by what it is made of, and beside it is the note that it is done."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from tests.fakes.machine.builders import make
from tests.fakes.machine.call import Call, Program, failed
from vmtool.machine import Output


def one_file(call: Call) -> Output:
    """As `make_whole`, of an order for one file."""
    return make_whole(call, call.order["source"], call.order["target"])


def copy_files(call: Call) -> Output:
    """One after the other."""
    result = Output(0, "", "")
    for source, target in zip(call.order["sources"], call.order["targets"], strict=True):
        if not result.status:
            result = make_whole(call, source, target)
    return result


def make_whole(call: Call, source: str, target: str) -> Output:
    """Under another name at first, as a kill would leave it."""
    directory, name = posixpath.split(target)
    new, tree = f"{directory}/.{name}.vmtool-new", call.machine.tree
    result = make(call, new, source)
    if not result.status:
        tree.rename(new, target)
        result = make(call, f"{directory}/.{name}.vmtool-done", target)
    return result


def sign_manifest(call: Call) -> Output:
    """Only when every file is done; then the notes go."""
    directory, tree = call.order["directory"], call.machine.tree
    notes = [f"{directory}/.{name}.vmtool-done" for name in call.order["names"]]
    if missing := [note for note in notes if not call.machine.exists(note)]:
        return failed(f"{missing[0]}: not done")
    result = make(call, f"{directory}/vmtool-manifest.json", *notes)
    for note in notes:
        tree.unlink(note)
    return result


def replace_model(call: Call) -> Output:
    """The two directories have each other's names, at one moment."""
    call.machine.tree.exchange(call.order["directory"], call.order["new"])
    return Output(0, "", "")


WORKERS: Mapping[str, Program] = {"models.copy_files": copy_files, "models.encrypt_file": one_file,
                                  "models.sign_manifest": sign_manifest, "models.rewrap_file": one_file,
                                  "models.replace_model": replace_model}
