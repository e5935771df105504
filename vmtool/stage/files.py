"""The instance's own files, and what an earlier launch of the same name left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
        paths, keys = launch.paths, p.Remove(launch.paths.key.parent)
        # Started again it keeps its key, also when it takes several tries: who has it goes on to ask.
        undo: tuple[p.Action, ...] = () if launch.again else (keys,)
        if launch.replaces:
            yield p.Step("clear what the launch before the last left", tuple(map(p.Remove, of_launch(paths))))
            yield launch.inherit(p.Step("go on with its keys and tokens"), keys)
            undo = (p.Remove(paths.access), p.Remove(paths.fifos))
        elif launch.earlier:
            yield plan_clearing(launch.earlier, again=launch.again)
        yield p.Step(
            "write the instance's files",
            (
                p.MakeDir(paths.log.parent), p.MakeDir(paths.canary.parent),
                p.WriteFile(paths.spec, launch.spec.model_dump_json(indent=2, by_alias=True) + "\n"),
                p.WriteFile(paths.record, record_text(launch.record)),
                p.CopySecret(paths.key, UID, None if launch.replaces else launch.body.vllm.api_key_file),
                p.CopySecret(paths.manager, 0), p.CopySecret(paths.scraper, 0),
            ),
            undo=undo,
        )

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[p.Step]:
        secret = Paths(state.instance(name)).key.parent
        if not slot and reader.exists(str(secret)):
            yield p.Step(f"the key in {secret}", undo=(p.Remove(secret),))


def of_launch(paths: Paths) -> tuple[Path, ...]:
    """What the launch before left in a slot."""
    return (paths.place,) if paths.slot else (paths.log, paths.console, paths.pidfile, paths.evidence)


def plan_clearing(earlier: Instance, *, again: Again = "") -> p.Step:
    """Undo what an earlier launch of the same name left.

    Args:
        again: see `Launch`; a try of watch is one of those that it counts.
    """
    kept, paths = p.Remove(earlier.paths.key.parent) if again else None, earlier.paths
    undo = tuple(action for entry in reversed(earlier.journal.standing) for action in entry.undo if action != kept)
    old = (paths.log, paths.pidfile, paths.evidence, paths.watched_canary, paths.stopped,
           *(() if again == "watch" else (paths.watch,)))
    return p.Step("clear what the earlier launch left", undo + tuple(p.Remove(path) for path in old), undo,
                  clears_previous=True)
