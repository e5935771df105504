"""The packages of an RPM guest as one archive: by dnf --installroot, which Debian has too."""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.architecture import BY_DEBIAN
from vmtool.isolation import private
from vmtool.rootfs.build.debian_base import packages
from vmtool.rootfs.build.facts import BuildFacts
from vmtool.rootfs.build.kernel_files import plan_kernel
from vmtool.rootfs.build.store import EPOCH, Store
from vmtool.rootfs.recipe.models import Recipe, Repository, Rpm

LISTING = "rpm %{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{SHA256HEADER}\\n"
# Debian's rpm has its database in the caller's home; the guest looks for it here.
_MACROS = "%_dbpath /var/lib/rpm\n"
# Directories that a guest has anyway.
_TOP = ("etc", "home", "mnt", "opt", "root", "run", "srv", "tmp", "usr", "var")
# What differs from build to build, or belongs to the build host.
_CLEAN = ("var/cache", "var/log", "var/lib/dnf", "etc/machine-id", "etc/resolv.conf", "etc/hostname", "etc/yum.repos.d",
          "var/lib/systemd/catalog", "var/lib/systemd/random-seed")


def plan_rpm(store: Store, recipe: Recipe, facts: BuildFacts) -> p.Step:
    """From the repositories' packages to base.tar, and packages.txt with what they are."""
    rpm = recipe.rpm or Rpm(release="0", repositories=(Repository(name="none", source="file:/", unsigned=True),))
    scratch, place = store.scratch(recipe.name), store.base(facts.inputs.base)
    tree, tar = scratch / "tree", scratch / "base.tar"
    env = (*facts.environment, ("SOURCE_DATE_EPOCH", str(EPOCH)), ("TMPDIR", str(scratch)))
    return p.Step(f"install the packages (release {rpm.release}, {recipe.arch})", (
        p.Remove(scratch), p.MakeDir(tree, mode=0o755), p.MakeDir(place.parent, mode=0o755),
        *install_actions(rpm, recipe.arch, packages(recipe), scratch, store.root / "dnf", env, root=facts.root),
        *(p.Remove(tree / name) for name in _CLEAN), p.MakeDir(tree / "var/cache", mode=0o755),
        p.MakeDir(tree / "var/log", mode=0o755), pack(tree, tar),
        *plan_kernel(recipe, facts.inputs.modules, tar), p.Remove(tree),
        p.Run(("mv", "--no-target-directory", str(scratch), str(place))),
    ), undo=(p.Remove(scratch),), waits_only=True)


def install_actions(rpm: Rpm, arch: str, names: tuple[str, ...], scratch: Path, cache: Path,
                    env: p.Pairs, *, root: bool) -> tuple[p.Action, ...]:
    """Install packages into SCRATCH/tree, and list all that are in it then in SCRATCH/packages.txt."""
    tree, repos, home = scratch / "tree", scratch / "repos", scratch / "home"
    env = (*env, ("HOME", str(home)))
    settings = (f"reposdir={repos}", f"cachedir={cache}", "logdir=/var/log", "persistdir=/var/lib/dnf",
                "install_weak_deps=False", "tsflags=nodocs", "keepcache=True", "varsdir=/nonexistent")
    # Without SOURCE_DATE_EPOCH rpm would write down the time of the installation.
    dnf = (*private(root=root), "dnf", "--assumeyes", f"--config={repos / 'dnf.conf'}", f"--installroot={tree}",
           f"--releasever={rpm.release}", f"--forcearch={BY_DEBIAN[arch].machine}",
           *(f"--setopt={line}" for line in settings), "install", *names)
    return (p.MakeDir(repos), p.WriteFile(repos / "dnf.conf", "[main]\n"),
            p.MakeDir(home), p.WriteFile(home / ".rpmmacros", _MACROS),
            *(p.WriteFile(repos / f"{each.name}.repo", repository_text(each)) for each in rpm.repositories),
            p.Run(dnf, env=env, deadline=3600),
            p.Run(("rpm", f"--root={tree}", "--query", "--all", f"--queryformat={LISTING}"), env=env,
                  stdout=scratch / "packages.txt", deadline=120), p.Remove(repos), p.Remove(home),
            *_tidy(tree, cache.relative_to("/")))


def _tidy(tree: Path, cache: Path) -> tuple[p.Action, ...]:
    """Take away what dnf writes into the tree at its cache's place: a path of the build host's."""
    parents = [each for each in cache.parents if each.name and (len(each.parts) > 1 or each.name not in _TOP)]
    return (p.Remove(tree / cache),
            p.Run(("rmdir", "--ignore-fail-on-non-empty", *(str(tree / each) for each in parents)),
                  absent_messages=("No such file or directory",)))


def pack(tree: Path, tar: Path) -> p.Run:
    """A tree as an archive; the same tree gives the same bytes."""
    return p.Run(("tar", "--create", "--format=posix", "--sort=name", f"--mtime=@{EPOCH}", "--clamp-mtime",
                  "--numeric-owner", "--xattrs", "--xattrs-include=*",
                  "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", f"--file={tar}",
                  f"--directory={tree}", "."), deadline=1200)


def repository_text(repository: Repository) -> str:
    """A .repo file of dnf's: packages' signatures are checked, unless the recipe says that there are none."""
    keys = [f"gpgkey=file://{repository.keys}"] if repository.keys else []
    lines = [f"[{repository.name}]", f"name={repository.name}", f"baseurl={repository.source}", "enabled=1",
             f"gpgcheck={int(not repository.unsigned)}", *keys, "skip_if_unavailable=0"]
    return "\n".join(lines) + "\n"
