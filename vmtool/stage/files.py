"""The instance's own files, and what an earlier launch of the same name left."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.containerd.container import UID
from vmtool.instance.instance import Instance, Paths
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.records import record_text
from vmtool.stage.launch import Again, Launch, Stage


class FilesStage(Stage):
    """Writes the directory. A failed launch keeps it, but for the key, so that its logs can be read."""

    def prepare(self, launch: Launch) -> Iterator[p.Step]:
        if launch.earlier:
            yield plan_clearing(launch.earlier, again=launch.again)
        paths = launch.paths
        yield p.Step(
            "write the instance's files",
            (
                p.MakeDir(paths.log.parent), p.MakeDir(paths.canary.parent),
                p.WriteFile(paths.spec, launch.spec.model_dump_json(indent=2, by_alias=True) + "\n"),
                p.WriteFile(paths.record, record_text(launch.record)),
                p.CopySecret(paths.key, UID, launch.body.vllm.api_key_file),
                p.CopySecret(paths.manager, 0), p.CopySecret(paths.scraper, 0),
            ),
            # Started again it keeps its key, also when it takes several tries: who has it goes on to ask.
            undo=() if launch.again else (p.Remove(paths.key.parent),),
        )

    def remains(self, reader: Reader, state: State, name: str) -> Iterator[p.Step]:
        secret = Paths(state.instance(name)).key.parent
        if reader.exists(str(secret)):
            yield p.Step(f"the key in {secret}", undo=(p.Remove(secret),))


def plan_clearing(earlier: Instance, *, again: Again = "") -> p.Step:
    """Undo what an earlier launch of the same name left.

    Args:
        again: see `Launch`; a try of watch is one of those that it counts.
    """
    kept = p.Remove(earlier.paths.key.parent) if again else None
    undo = tuple(action for entry in reversed(earlier.journal.entries) for action in entry.undo if action != kept)
    old = (earlier.paths.log, earlier.paths.pidfile, earlier.paths.directory / "evidence", earlier.paths.stopped,
           *(() if again == "watch" else (earlier.paths.watch,)))
    return p.Step("clear what the earlier launch left", undo + tuple(p.Remove(path) for path in old), undo,
                  clears_previous=True)
