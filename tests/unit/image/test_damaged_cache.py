"""What buildah keeps of earlier builds and finds damaged: it is dropped, and the image built again, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.unit.image.make import CACHE, DIGEST, facts, recipe
from vmtool.errors import ProgramFailed
from vmtool.image import commands
from vmtool.image.actions import DamagedCache, RunBuildah
from vmtool.image.plan_build import plan_build
from vmtool.machine import Output
from vmtool.paths import State
from vmtool.plan import Plan

# As buildah 1.28 writes them.
PUSHING = 'Error: pushing image "docker.io/vmtool/tiny:build" to "oci-archive:/c/scratch/tiny/image.tar:x": '
ERRORS = {
    "a changed file": ("push", PUSHING + 'reading blob sha256:9: file integrity checksum failed for "opt/cacert.pem"'),
    "a file that is gone": ("push", PUSHING + "reading blob sha256:9: open /c/buildah/overlay/9/d: no such file"),
    "a layer's list that is cut": ("push", PUSHING + "reading blob sha256:9: unexpected EOF"),
    "a layer that is gone": ("build", "Error: preparing container for next step: creating build container: creating "
                             'read-write layer with ID "d": Stat /c/buildah/overlay/9: no such file or directory'),
    "a list of layers that is cut": ("build", "Error: checking if cached image exists from a previous build: getting "
                                     "top layer info: layer not known"),
}
OTHERS = {
    "an instruction that fails": ("build", 'cat: /c/buildah/overlay: no\nError: building at STEP "RUN exit 9": while '
                                  "running runtime: exit status 9"),
    "a full disk of which it tells little": ("push", PUSHING + "writing blob: io: read/write on closed pipe"),
    "a full disk": ("push", PUSHING + "writing blob: storing blob to file /c/x: write /c/x: no space left on device"),
}


class Host:
    """Answers every program alike."""

    def __init__(self, error: str) -> None:
        self.error = error

    def execute(self, argv: Sequence[str], **_: Any) -> Output:
        return Output(125, "", f"STEP 1/4: FROM scratch\n{self.error}\n")


def run_of(verb: str) -> RunBuildah:
    step = plans.step(plan_build(CACHE, Path("/j"), recipe(), DIGEST, facts()), "build the image")
    (found,) = [action for action in step.actions if isinstance(action, RunBuildah) and verb in action.argv]
    return found


@pytest.mark.parametrize(("verb", "error"), ERRORS.values(), ids=ERRORS)
def test_a_damage_is_known_by_buildahs_own_error(verb: str, error: str) -> None:
    with pytest.raises(DamagedCache, match="what buildah keeps of earlier builds is damaged") as damaged:
        run_of(verb).do(Host(error))  # type: ignore[arg-type]
    assert damaged.value.details == (error,)


@pytest.mark.parametrize(("verb", "error"), OTHERS.values(), ids=OTHERS)
def test_another_failure_is_one(verb: str, error: str) -> None:
    with pytest.raises(ProgramFailed) as failed:
        run_of(verb).do(Host(error))  # type: ignore[arg-type]
    assert not isinstance(failed.value, DamagedCache)


def test_dropping_it_comes_first() -> None:
    first, *_ = plan_build(CACHE, Path("/j"), recipe(), DIGEST, facts(), drop=True).steps
    assert plans.lines(first.actions)[-1] == "rm -rf --one-file-system /c/buildah"


@pytest.mark.parametrize("times", [1, 2])
def test_the_image_is_built_again_once_and_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: int,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    made: list[Plan] = []

    def apply_plan(_state: State, _directory: Path, _doing: str, make: Callable[[], Plan]) -> Plan:
        made.append(make())
        if len(made) <= times:
            raise DamagedCache("what buildah keeps of earlier builds is damaged", details=("Error: pushing image",))
        return made[-1]

    monkeypatch.setattr(commands, "apply_plan", apply_plan)
    monkeypatch.setattr(commands, "read_build", lambda *_: facts())
    builder = commands._Build(State(tmp_path), recipe(), DIGEST, None, "", False)  # type: ignore[arg-type]
    if times == 1:
        assert builder.built("doing") is made[-1]
    else:
        with pytest.raises(DamagedCache):
            builder.built("doing")
    dropping = [[step for step in plan.steps if step.title.startswith("remove what buildah keeps")] for plan in made]
    assert [len(steps) for steps in dropping] == [0, 1]
    assert capsys.readouterr().err == ("Error: pushing image\nwhat buildah keeps of earlier builds is damaged: it is "
                                       "removed, and the image built again\n")
