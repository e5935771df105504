"""NVIDIA's kernel modules for an image that is there: made for its kernel as a build makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.errors import Refused
from vmtool.rootfs.add.plan_rebuild import ImageChange
from vmtool.rootfs.build.facts import Supply
from vmtool.rootfs.build.plan_driver import driver_actions, driver_title
from vmtool.rootfs.inspect.tree import Tree
from vmtool.rootfs.recipe.models import Debian, Driver, Kernel, Recipe


def driver_of(ways: dict[str, Any]) -> Driver:
    """The driver that options of the command line name.

    Raises:
        Refused: they contradict each other.
    """
    given = {name: value.absolute() if isinstance(value, Path) else value for name, value in ways.items() if value}
    try:
        return Driver.model_validate(given)
    except ValidationError as error:
        reported = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
        raise Refused(f"driver: {reported}", hint="give one of --package, --run with --source, and --modules") from None


def change_driver(scratch: Path, tree: Tree, arch: str, debian: Debian | None, driver: Driver, supply: Supply,
                  tools: Tools) -> ImageChange:
    """Make the modules; their archive is laid over the image's.

    Raises:
        Refused: the image has modules of no kernel, or of several.
    """
    kernels = tree.names("/usr/lib/modules") or tree.names("/lib/modules")
    if len(kernels) != 1:
        raise Refused(f"the image has modules of {len(kernels)} kernels ({', '.join(kernels) or 'none'}), and a driver "
                      "is compiled for one", hint="put the kernel and the driver into the recipe")
    # The headers of just this kernel, not the newest of its kind.
    recipe = Recipe.model_construct(name="addition", arch=arch, debian=debian, driver=driver,
                                    kernel=Kernel(package=f"linux-image-{kernels[0]}"))
    work = scratch / "driver"
    actions = (p.MakeDir(work), *driver_actions(recipe, driver, supply, tools, work, scratch / "old.tar"))
    made = driver.packages or [str((driver.run or driver.modules or Path()).name)]
    return ImageChange(driver_title(driver), actions, (scratch / "old.tar", work / "out" / "driver.tar"),
                  tuple(f"driver {name}" for name in made), modules=("nvidia",), driver=work / "out" / "driver.json",
                  branch=driver.branch or "")

