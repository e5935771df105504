"""The instance's own files, and what an earlier launch of the same name left."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.containerd.container import UID
from vmtool.instance.instance import Instance
from vmtool.records import record_text
from vmtool.stage.launch import Launch, Stage


class FilesStage(Stage):
    """Writes the directory. A failed launch keeps it, but for the key, so that its logs can be read."""

    def prepare(self, launch: Launch) -> Iterator[p.Step]:
        if launch.earlier:
            yield plan_clearing(launch.earlier)
        paths = launch.paths
        yield p.Step(
            "write the instance's files",
            (
                p.MakeDir(paths.log.parent), p.MakeDir(paths.canary.parent),
                p.WriteFile(paths.spec, launch.spec.model_dump_json(indent=2, by_alias=True) + "\n"),
                p.WriteFile(paths.record, record_text(launch.record)),
                p.CopySecret(paths.key, UID, launch.body.vllm.api_key_file),
                p.CopySecret(paths.manager, 0),
            ),
            undo=(p.Remove(paths.key.parent),),
        )


def plan_clearing(earlier: Instance) -> p.Step:
    """Undo what an earlier launch of the same name left."""
    undo = tuple(action for entry in reversed(earlier.journal.entries) for action in entry.undo)
    old = (earlier.paths.log, earlier.paths.pidfile, earlier.paths.directory / "evidence")
    return p.Step("clear what the earlier launch left", undo + tuple(p.Remove(path) for path in old), undo,
                  clears_previous=True)
