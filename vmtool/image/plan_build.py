"""The plan of a build: from a recipe to an archive in the cache. Nothing of it needs the host lock."""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.cache import Cache, checksum
from vmtool.debian.mmdebstrap import NO_TRANSLATIONS, Bootstrap
from vmtool.findings import refuse
from vmtool.image import wheels
from vmtool.image.actions import RunBuildah
from vmtool.image.check import check_host, check_upstream
from vmtool.image.facts import BuildFacts
from vmtool.image.recipe import PLATFORMS, SERVING, Recipe, base_digest
from vmtool.isolation import private

# What every file in base and layers is dated, so that the same input gives the same bytes: 2025-06-15.
EPOCH = "1750000000"
UNMOUNTED = ("not mounted", "no mount point", "not found")
# In buildah's own errors: parts of its storage that it misses; and whatever keeps it from writing the archive, for
# which it compares each file of each layer with what it once wrote.
LOST, PUSHED = ("layer not known", "image not known"), ("pushing image",)
LEAN = ("man", "doc", "info", "locale")


def plan_build(cache: Cache, directory: Path, recipe: Recipe, digest: str, facts: BuildFacts, *,
               upstream_digest: str = "", fresh: bool = False, drop: bool = False) -> p.Plan:
    """From nothing to an archive.

    Args:
        directory: of the journal.
        digest: of the recipe's whole input.
        upstream_digest: of the upstream image, when the recipe has one.
        fresh: use nothing that an earlier build left but the wheels, whose hashes are locked.
        drop: remove what buildah keeps of earlier builds first.

    Raises:
        Refused: the upstream digest is missing, malformed or not wanted.
        NotReady: programs or space are missing, all of them listed.
    """
    subject = f"build of {recipe.name}"
    if facts.archive and not fresh:
        return p.Plan(subject, directory, (p.Step(f"build {recipe.name}", skip="the same input was built before"),))
    check_upstream(recipe, upstream_digest)
    lacking = check_host(cache, recipe, facts, fresh=fresh)
    refuse(lacking, f"{recipe.name} cannot be built here", lacking[0].hint if lacking else "")
    steps = [
        *([p.Step("remove what buildah keeps of earlier builds", (*_unmounted(cache), p.Remove(cache.storage)),
                  waits_only=True)] if drop else ()),
        plan_wheels(cache, recipe, facts), plan_base(cache, recipe, facts, fresh=fresh),
        plan_context(cache, recipe, facts), plan_image(cache, recipe, digest, facts, upstream_digest, fresh=fresh),
    ]
    if facts.stale:
        steps.append(p.Step("remove what no build needs any more", tuple(map(p.Remove, facts.stale)), waits_only=True))
    return p.Plan(subject, directory, tuple(steps))


def plan_wheels(cache: Cache, recipe: Recipe, facts: BuildFacts) -> p.Step:
    """Fetch the locked wheels; the build itself then needs no network."""
    title = "fetch the locked wheels"
    if not recipe.python:
        return p.Step(title, skip="the recipe has none", waits_only=True)
    if not facts.wheels_missing:
        return p.Step(title, skip="all are in the cache", waits_only=True)
    folder, scratch = cache.context(recipe.name) / "wheels", cache.scratch(recipe.name)
    environment = (*facts.environment, ("TMPDIR", str(scratch)))
    # What is left when a download breaks off is kept: pip checks it against the lock when it is tried again.
    return p.Step(title, (p.MakeDir(folder, mode=0o755), p.MakeDir(scratch), *(
        wheels.fetch(recipe, lock, folder, environment) for lock in recipe.locks), p.Remove(scratch)),
        undo=(p.Remove(scratch),), waits_only=True)


def plan_base(cache: Cache, recipe: Recipe, facts: BuildFacts, *, fresh: bool) -> p.Step:
    """Make the root filesystem with mmdebstrap."""
    if not recipe.suite:
        return p.Step("make the Debian base", skip=f"it is {recipe.upstream}", waits_only=True)
    title = f"make the Debian base ({recipe.suite})"
    if facts.base and not fresh:
        return p.Step(title, skip="the same packages are in the cache", waits_only=True)
    base, scratch = cache.base(base_digest(recipe)), cache.scratch(recipe.name)
    made = scratch / "base.tar"
    hooks = [
        f'chroot "$1" python3 -m compileall -q -f --invalidation-mode=unchecked-hash /usr/lib/python{recipe.python}'
    ] if recipe.python else []
    # The host's mirrors, resolver and name are nobody's business.
    hooks.append('rm -rf "$1"/etc/apt/sources.list* "$1"/etc/hostname "$1"/var/cache/* "$1"/var/log/* '
                 '"$1"/var/lib/apt/lists')
    hooks.append(': > "$1"/etc/resolv.conf')
    paths = [f"path-exclude=/usr/share/{name}/*" for name in LEAN] + ["path-include=/usr/share/doc/*/copyright"]
    argv = Bootstrap(recipe.suite, made, "minbase", arch=PLATFORMS[recipe.platform].debian, packages=recipe.packages,
                     apt=(NO_TRANSLATIONS, *facts.options), dpkg=tuple(paths), customize=tuple(hooks),
                     sources=facts.sources, root=facts.root).argv
    return p.Step(title, (
        p.MakeDir(base.parent, mode=0o755), p.MakeDir(scratch, mode=0o755),
        p.Run(argv, env=(*facts.environment, ("SOURCE_DATE_EPOCH", EPOCH), ("TMPDIR", str(scratch))), deadline=1800),
        *_keep(made, base), p.Remove(scratch),
    ), undo=(p.Remove(scratch),), waits_only=True)


def plan_context(cache: Cache, recipe: Recipe, facts: BuildFacts) -> p.Step:
    """Put together what the Containerfile may see."""
    context = cache.context(recipe.name)
    copy = ("install", "--mode=0644", "-D", f"--target-directory={context}")
    actions: list[p.Action] = [
        p.Remove(context / "serving"),
        p.Run((*copy, *map(str, (recipe.directory / "Containerfile", *recipe.locks)))),
    ]
    for folder in sorted({path.parent for path in facts.serving}):
        target = context / "serving" / folder.relative_to(SERVING)
        actions.append(p.Run((*copy[:-1], f"--target-directory={target}",
                              *(str(path) for path in facts.serving if path.parent == folder))))
    if recipe.suite:
        link = ("ln", "--force", str(cache.base(base_digest(recipe))), str(context / "base.tar"))
        actions.append(p.Run(link))
    return p.Step("put the build context together", tuple(actions), waits_only=True)


def plan_image(cache: Cache, recipe: Recipe, digest: str, facts: BuildFacts, upstream_digest: str, *,
               fresh: bool) -> p.Step:
    """Build, and write the archive; it has its name only when it is whole."""
    archive, context = cache.archive(recipe.name, digest), cache.context(recipe.name)
    scratch = cache.scratch(recipe.name)
    made, reference = scratch / "image.tar", f"{recipe.reference}:{digest[:12]}"
    arguments = (*((f"--build-arg=UPSTREAM={recipe.upstream}@{upstream_digest}",) if recipe.upstream else ()),
                 *(("--no-cache",) if fresh else ()))
    env = (*facts.environment, ("TMPDIR", str(scratch)))
    before = (p.MakeDir(archive.parent, mode=0o755), p.MakeDir(scratch))
    after = (*_keep(made, archive), p.Remove(scratch))
    if facts.builder == "docker":
        output = f"--output=type=oci,dest={made},name={reference},compression=zstd,compression-level=1"
        run = p.Run(("docker", "buildx", "build", "--provenance=false", f"--platform={recipe.platform}",
                     f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}", *arguments, output, str(context)), env=env,
                    deadline=7200)
        return p.Step("build the image with docker", (*before, run, *after), undo=(p.Remove(scratch),), waits_only=True)
    buildah = ("buildah", "--root", str(cache.storage), "--runroot", str(cache.runroot), "--storage-driver", "overlay")
    # Always the same name there, so that `rmi --prune` finds what earlier builds left.
    local = f"{recipe.reference}:build"
    # What an instruction runs would go on when buildah is killed.
    build = (*private(root=facts.root), *buildah, "build", "--isolation=chroot", "--layers", "--format=oci",
             f"--timestamp={EPOCH}", f"--platform={recipe.platform}", *arguments, f"--tag={local}", str(context))
    # zstd at its fastest: writing is half as long as with gzip, and reading it back is as quick as no compression.
    push = (*buildah, "push", "--quiet", "--compression-format=zstd", "--compression-level=1", local,
            f"oci-archive:{made}:{reference}")
    # A killed buildah leaves a working container that is mounted; its storage may be mounted on itself as well.
    clean = (p.Run((*buildah, "rm", "--all")), *_unmounted(cache), p.Remove(scratch))
    prune = p.Run((*buildah, "rmi", "--prune"), deadline=300)
    return p.Step("build the image with buildah", (
        *before, RunBuildah(build, env=env, deadline=7200, damaged=(*LOST, f"{cache.storage}/")),
        RunBuildah(push, env=env, deadline=1800, damaged=PUSHED), *after, prune, p.Remove(cache.runroot)),
        undo=clean, waits_only=True)


def _unmounted(cache: Cache) -> tuple[p.Action, ...]:
    """buildah's storage may be mounted on itself; its counts of mounts go with the mounts."""
    return (p.Run(("umount", str(cache.storage / "overlay")), absent_messages=UNMOUNTED), p.Remove(cache.runroot))


def _keep(made: Path, kept: Path) -> tuple[p.Action, ...]:
    """Move a file to where it stays: a checksum that is there without its file, or beside another, shows."""
    return (p.Run(("sha256sum", str(made)), stdout=checksum(kept), deadline=300),
            p.Run(("mv", "--force", str(made), str(kept))))
