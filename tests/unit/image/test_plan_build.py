"""The plan of a build: what is done, what is not done again, and what stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.unit.image.make import CACHE, DIGEST, UPSTREAM, facts, recipe
from vmtool.errors import NotReady, Refused
from vmtool.image.plan_build import plan_build
from vmtool.image.recipe import SERVING, base_digest
from vmtool.isolation import private, python
from vmtool.plan import Plan, Remove, Run, RunEither, plan_lines

JOURNAL = Path("/s/builds/tiny")

def build(found: Any = None, *, of: Any = None, **options: Any) -> Plan:
    return plan_build(CACHE, JOURNAL, of or recipe(), DIGEST, found or facts(), **options)


def argvs(plan: Plan) -> list[tuple[str, ...]]:
    actions = [action for step in plan.steps for action in step.actions]
    return [action.argv if isinstance(action, Run) else action.first for action in actions
            if isinstance(action, Run | RunEither)]


def one(plan: Plan, *start: str) -> tuple[str, ...]:
    """The one command line that has these words in it."""
    (found,) = [argv for argv in argvs(plan) if set(start) <= set(argv)]
    return found


def test_a_first_build_does_everything_and_never_holds_up_the_host() -> None:
    plan = build()
    assert [step.title for step in plan.steps] == [
        "fetch the locked wheels", "make the Debian base (bookworm)", "put the build context together",
        "build the image with buildah"]
    assert all(step.actions and step.waits_only for step in plan.steps)


def test_the_same_input_builds_nothing() -> None:
    plan = build(facts(archive=True, builder="", mmdebstrap=False, free=0))
    assert not plan.changes
    assert [step.skip for step in plan.steps] == ["the same input was built before"]


def test_what_is_in_the_cache_is_used_unless_all_is_to_be_fresh() -> None:
    there = facts(archive=True, base=True, wheels_missing=0)
    plan = build(facts(base=True, wheels_missing=0))
    assert [bool(step.skip) for step in plan.steps] == [True, True, False, False]
    fresh = build(there, fresh=True)
    assert [bool(step.skip) for step in fresh.steps] == [True, False, False, False]
    assert "--no-cache" in one(fresh, "build")
    assert "--no-cache" not in one(plan, "build")


def test_an_archive_gets_its_name_last_and_its_checksum_before() -> None:
    step = plans.step(build(), "build the image")
    lines = [action.shell() for action in step.actions]
    push, digest, move = (next(index for index, line in enumerate(lines) if text in line)
                          for text in (" push ", "sha256sum", "mv --force"))
    assert push < digest < move
    assert lines[digest].endswith(f"> /c/images/tiny/{DIGEST[:12]}.sha256")
    assert lines[move].endswith(f" /c/images/tiny/{DIGEST[:12]}.tar")


def test_every_step_that_leaves_something_for_a_while_takes_it_back() -> None:
    plan = build()
    for step in plan.steps:
        if "/c/scratch/tiny" in " ".join(action.shell() for action in step.actions):
            assert Remove(CACHE.scratch("tiny")) in step.undo, step.title
            assert Remove(CACHE.scratch("tiny")) in step.actions, step.title
    undo = [action.shell() for action in plans.step(plan, "build the image").undo]
    assert any(line.startswith("buildah --root /c/buildah") and line.endswith("rm --all") for line in undo)
    assert f"rm -rf --one-file-system {CACHE.runroot}" in undo


def test_the_base_is_made_from_the_hosts_sources_and_does_not_keep_them() -> None:
    argv = one(build(facts(sources=("/etc/apt/a.sources",), options=('Acquire::http::Proxy "http://p:1"',))),
               "mmdebstrap")
    digest = base_digest(recipe())[:12]
    own = private(root=True)
    assert argv[:len(own) + 1] == (*own, "mmdebstrap"), "a kill must leave nothing of it running"
    assert argv[-3:] == ("bookworm", "/c/scratch/tiny/base.tar", "/etc/apt/a.sources")
    assert '--aptopt=Acquire::http::Proxy "http://p:1"' in argv
    assert any("etc/apt/sources.list*" in word and word.startswith("--customize-hook=") for word in argv)
    assert f"mv --force /c/scratch/tiny/base.tar /c/bases/{digest}.tar" in plan_lines(build())


def test_wheels_are_fetched_for_the_images_python_with_every_lock() -> None:
    lines = [argv for argv in argvs(build()) if "pip" in argv]
    assert [argv[-1].rpartition("/")[2] for argv in lines] == ["pip.lock", "requirements.lock", "torch.lock"]
    for argv in lines:
        assert argv[:4] == python("-m", "pip")
        assert {"--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version=3.11", "--abi=cp311",
                "--platform=manylinux_2_28_x86_64"} <= set(argv)
        assert not any("aarch64" in word or "manylinux_2_37" in word for word in argv)


def test_a_recipes_own_index_is_asked_after_pips_settings() -> None:
    plan = build(of=recipe(indexes=(("torch.lock", "https://x.example/cpu"),)))
    (either,) = [action for step in plan.steps for action in step.actions if isinstance(action, RunEither)]
    assert either.second == (*either.first, "--index-url=https://x.example/cpu")
    assert either.first[-1].endswith("/torch.lock")


def test_the_hosts_settings_reach_pip_and_the_builder() -> None:
    plan = build()
    for step in (plans.step(plan, "fetch the locked wheels"), plans.step(plan, "build the image")):
        runs = [action for action in step.actions if isinstance(action, Run) and action.argv[-1] != "--prune"]
        assert any(("PIP_CERT", "/ca.pem") in run.env for run in runs), step.title
    assert not any("PIP_CERT" in word for argv in argvs(plan) for word in argv), "not baked in by a build argument"


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(NotReady) as told:
        build(facts(builder="", mmdebstrap=False, pip=False, free=1 << 30), of=recipe(space=8 << 30))
    text = "\n".join(told.value.details)
    assert all(word in text for word in ("buildah", "mmdebstrap", "pip", "1.0 GiB free, 8.0 GiB are needed"))
    assert told.value.hint == "apt-get install buildah"
    assert build(facts(mmdebstrap=False, base=True, wheels_missing=0, pip=False)).changes


@pytest.mark.parametrize("digest", ["", "latest", "sha256:abc", "sha256:" + "G" * 64])
def test_an_upstream_image_is_never_guessed(digest: str) -> None:
    upstream = recipe(suite="", packages=(), upstream="docker.io/v/v", python="")
    with pytest.raises(Refused, match=r"the digest of docker\.io/v/v is needed"):
        build(of=upstream, upstream_digest=digest)


def test_an_upstream_image_is_named_by_its_digest() -> None:
    upstream = recipe(suite="", packages=(), upstream="docker.io/v/v", python="")
    plan = build(facts(mmdebstrap=False, pip=False), of=upstream, upstream_digest=UPSTREAM)
    assert f"--build-arg=UPSTREAM=docker.io/v/v@{UPSTREAM}" in one(plan, "build")
    assert [bool(step.skip) for step in plan.steps] == [True, True, False, False]
    assert not any("base.tar" in word for argv in argvs(plan) for word in argv)
    with pytest.raises(Refused, match="no upstream image"):
        build(upstream_digest=UPSTREAM)


def test_docker_builds_where_buildah_is_not() -> None:
    plan = build(facts(builder="docker"))
    argv = one(plan, "docker")
    assert argv[:3] == ("docker", "buildx", "build")
    output = "--output=type=oci,dest=/c/scratch/tiny/image.tar,name=docker.io/vmtool/tiny:"
    assert any(word.startswith(output) for word in argv)
    assert not any("buildah" in argv for argv in argvs(plan))


def test_the_context_has_the_programs_that_an_image_carries() -> None:
    serving = tuple(SERVING / name for name in ("a.py", "b.py", "front/c.py"))
    plan = build(facts(serving=serving))
    outer, inner = (one(plan, f"--target-directory=/c/contexts/tiny/{name}") for name in ("serving", "serving/front"))
    assert outer[-2:] == (str(SERVING / "a.py"), str(SERVING / "b.py"))
    assert inner[-1:] == (str(SERVING / "front/c.py"),)


def test_what_no_build_needs_any_more_goes() -> None:
    stale = Path("/c/images/tiny/old.tar")
    assert plans.step(build(facts(stale=(stale,))), "remove what no build").actions == (Remove(stale),)
