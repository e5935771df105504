"""The packages of a guest image as one archive: by mmdebstrap."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from vmtool import plan as p
from vmtool.debian.mmdebstrap import NO_RECOMMENDS, NO_TRANSLATIONS, Bootstrap
from vmtool.rootfs.build.facts import BuildFacts
from vmtool.rootfs.build.kernel_files import plan_kernel
from vmtool.rootfs.build.store import EPOCH, Store
from vmtool.rootfs.recipe.models import Debian, Recipe

MIRROR, SECURITY = "http://deb.debian.org/debian", "http://security.debian.org/debian-security"
SNAPSHOT = "http://snapshot.debian.org/archive"
LEAN = tuple(f"/usr/share/{name}/*" for name in ("man", "info", "locale", "lintian", "bash-completion"))
# What differs from build to build or belongs to the build host; mmdebstrap leaves the apt settings that it was given.
CLEAN = ("etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf.d/99mmdebstrap", "etc/machine-id",
         "etc/hostname", "var/cache", "var/log", "var/lib/apt/lists", "var/lib/systemd/catalog",
         "var/lib/dbus/machine-id", "var/lib/systemd/random-seed")


def sources(debian: Debian, host: tuple[str, ...]) -> tuple[str, ...]:
    """The sources for mmdebstrap: lines, or the host's own source files when they are for exactly this.

    Args:
        host: source files of the build host that describe the release and nothing else.
    """
    if debian.snapshot:
        # The archive's own word on how long it is good has run out; its signature has not.
        lines = [f"deb [check-valid-until=no] {SNAPSHOT}/{archive}/{debian.snapshot} {suite} "
                 f"{' '.join(debian.components)}" for archive, suite in _suites(debian)]
    elif host and debian.components == ("main",) and set(debian.pockets) == {"updates", "security"}:
        lines = list(host)
    else:
        components = " ".join(debian.components)
        lines = [f"deb {MIRROR} {debian.suite} {components}"]
        lines += [f"deb {SECURITY if pocket == 'security' else MIRROR} {debian.suite}-{pocket} {components}"
                  for pocket in debian.pockets]
    for repository in debian.repositories:
        trust = "trusted=yes" if repository.unsigned else f"signed-by={repository.keys}"
        lines.append(f"deb [{trust}] {repository.source}")
    return tuple(lines)


def _suites(debian: Debian) -> list[tuple[str, str]]:
    """(archive, suite) of the release and its pockets."""
    return [("debian", debian.suite), *(("debian-security" if pocket == "security" else "debian",
                                         f"{debian.suite}-{pocket}") for pocket in debian.pockets)]


def plan_debian(store: Store, recipe: Recipe, facts: BuildFacts) -> p.Step:
    """From the archive's packages to base.tar, and packages.txt with what they are.

    With an emulator the tree lies in a user namespace, the one place where the kernel can be taught one without the
    whole host being taught (Linux 6.7, per-namespace binfmt_misc).
    """
    digest, emulator = facts.inputs.base, facts.emulator
    debian = recipe.debian or Debian(suite="stable")
    scratch, place = store.scratch(recipe.name), store.base(digest)
    # A user namespace's root cannot pass the cache's private directories.
    temporary = Path("/tmp") / f"vmtool-rootfs-{digest[:16]}" if emulator else scratch / "tmp"  # noqa: S108  (0700 inside)
    argv = Bootstrap(debian.suite, scratch / "base.tar", "minbase", "tar", recipe.arch, packages(recipe),
                     apt=(NO_TRANSLATIONS, NO_RECOMMENDS, *facts.options), dpkg=excluded(*LEAN, *recipe.exclude),
                     customize=tuple(hooks(recipe, scratch / "packages.txt")), sources=sources(debian, facts.sources),
                     emulator=emulator, root=facts.root).argv
    # A kernel package makes an initramfs, unless this says no; a guest of Kata's needs none.
    env = (*facts.environment, ("INITRD", "No"), ("SOURCE_DATE_EPOCH", str(EPOCH)), ("TMPDIR", str(temporary)))
    return p.Step(f"install the packages ({debian.suite}, {recipe.arch})", (
        p.Remove(scratch), p.MakeDir(scratch), p.MakeDir(temporary, mode=0o755), p.MakeDir(place.parent, mode=0o755),
        p.Run(argv, env=env, deadline=3600), *plan_kernel(recipe, facts.inputs.modules, scratch / "base.tar"),
        p.Remove(temporary),
        p.Run(("mv", "--no-target-directory", str(scratch), str(place))),
    ), undo=(p.Remove(temporary), p.Remove(scratch)), waits_only=True)


def excluded(*patterns: str) -> tuple[str, ...]:
    """dpkg's settings to leave out what packages have at these paths."""
    return tuple(f"path-exclude={pattern}" for pattern in patterns)


def packages(recipe: Recipe) -> tuple[str, ...]:
    """Everything that is installed, in the recipe's order."""
    kernel = recipe.kernel.package if recipe.kernel else None
    toolkit = recipe.toolkit.package if recipe.toolkit and not recipe.toolkit.file else None
    return (*recipe.packages, *(name for name in (kernel, toolkit) if name))


def hooks(recipe: Recipe, listing: Path) -> Iterator[str]:
    """mmdebstrap's customize hooks, which it gives to a shell with the tree in $1."""
    if recipe.toolkit and recipe.toolkit.file:
        yield f"upload {shlex.quote(str(recipe.toolkit.file))} /toolkit.deb"
        yield 'chroot "$1" dpkg --install /toolkit.deb && rm "$1"/toolkit.deb'
    yield from listing_hooks(listing)
    yield "rm -rf " + " ".join(f'"$1"/{name}' for name in CLEAN)
    yield 'mkdir -p "$1"/var/cache "$1"/var/log && : > "$1"/etc/resolv.conf'


def listing_hooks(listing: Path) -> Iterator[str]:
    """What is installed, with the hashes of the packages as the signed index has them."""
    yield ("chroot \"$1\" dpkg-query -W -f '${binary:Package}=${Version}\\n' | "
           'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" xargs apt-cache show > "$1"/packages.txt')
    yield f"download /packages.txt {shlex.quote(str(listing))}"
    yield 'rm "$1"/packages.txt'
