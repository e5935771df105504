"""The step that makes NVIDIA's kernel modules for the guest's kernel: see the worker `nvidia_modules`."""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.debian.mmdebstrap import NO_RECOMMENDS, NO_TRANSLATIONS, Bootstrap
from vmtool.debian.tools import Tools
from vmtool.errors import Refused
from vmtool.isolation import private
from vmtool.rootfs.build.debian_base import LEAN, excluded, sources
from vmtool.rootfs.build.facts import BuildFacts, Supply
from vmtool.rootfs.build.store import Store
from vmtool.rootfs.build.workers import nvidia_modules
from vmtool.rootfs.recipe.gpu_support import check_fit
from vmtool.rootfs.recipe.models import Debian, Driver, Recipe


def plan_driver(store: Store, recipe: Recipe, facts: BuildFacts, tools: Tools) -> p.Step | None:
    """From sources, installer or modules to driver.tar; None when the recipe has no driver.

    Raises:
        Refused: the driver does not fit the GPU; or the recipe's base cannot give what it needs.
    """
    driver = recipe.driver
    if driver is None:
        return None
    check_fit(recipe.name, driver, facts.gpus)
    scratch, place = store.scratch(f"{recipe.name}-driver"), store.driver(facts.inputs.driver)
    base = store.base(facts.inputs.base) / "base.tar"
    actions = driver_actions(recipe, driver, facts, tools, scratch, base)
    return p.Step(driver_title(driver), (
        p.Remove(scratch), *actions, p.MakeDir(place.parent, mode=0o755),
        p.Run(("mv", "--no-target-directory", str(scratch / "out"), str(place))), p.Remove(scratch),
    ), undo=(p.Remove(scratch),), waits_only=True)


def driver_title(driver: Driver) -> str:
    """What is done, for a person."""
    verb = "compile" if driver.packages else "install" if driver.run else "take"
    return f"{verb} NVIDIA's kernel modules"


def driver_actions(recipe: Recipe, driver: Driver, facts: Supply, tools: Tools, scratch: Path,
                   base: Path) -> tuple[p.Action, ...]:
    """Make SCRATCH/out with driver.tar and driver.json.

    Args:
        base: an archive of the guest, with the kernel's modules.

    Raises:
        Refused: the recipe's base cannot give what the driver needs.
    """
    own = private(root=facts.root)
    tree, out, depmod = scratch / "tree", scratch / "out", tools.argv("depmod")
    order = nvidia_modules.Order(base, out, depmod, tree, driver.run, driver.source, driver.modules)
    start = (p.MakeDir(out), p.MakeDir(scratch / "tmp", mode=0o755))
    if driver.packages:
        return (*start, _workshop(recipe, driver, facts, scratch),
                p.run_worker(order, deadline=7200, prefix=own))
    if driver.run:
        if driver.source is None:
            raise Refused(f"{recipe.name}: driver.run needs driver.source, the kernel's source tree or headers")
        return (*start, p.MakeDir(tree, mode=0o755), p.run_worker(order, deadline=7200, prefix=own))
    return (*start, p.run_worker(order, deadline=600))


def _workshop(recipe: Recipe, driver: Driver, facts: Supply, scratch: Path) -> p.Run:
    """A tree with a compiler, the headers of the guest's kernel and the driver's source.

    The driver's packages are unpacked, not installed: installing would compile for the build host's kernel.
    """
    kernel = recipe.kernel.package if recipe.kernel else None
    if recipe.debian is None or not kernel or not kernel.startswith("linux-image-"):
        raise Refused(f"{recipe.name}: a driver from packages needs a Debian base with a linux-image-* package",
                      hint="driver.run or driver.modules")
    headers = kernel.replace("linux-image-", "linux-headers-", 1)
    names = " ".join(driver.packages)
    fetch = (f'cd "$1"/root && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download -q {names} && '
             'for each in *.deb; do dpkg -x "$each" "$1"; done')
    debian: Debian = recipe.debian
    argv = Bootstrap(debian.suite, scratch / "tree", "minbase", "directory", recipe.arch, ("make", headers),
                     apt=(NO_TRANSLATIONS, NO_RECOMMENDS, *facts.options), dpkg=excluded(*LEAN, "/usr/share/doc/*"),
                     customize=(fetch,), sources=sources(debian, facts.sources), root=facts.root).argv
    return p.Run(argv, env=(*facts.environment, ("TMPDIR", str(scratch / "tmp"))), deadline=3600)
