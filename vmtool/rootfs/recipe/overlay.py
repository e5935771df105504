"""What vmtool itself puts into an image, beside packages: files, Kata's units, the hook, accounts, links of units.

`vmtool.rootfs.build.workers.merge_layers` lays it over the packages' archive.
"""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import Refused
from vmtool.rendering import render_template
from vmtool.rootfs.inspect.kata_requirements import AGENT
from vmtool.rootfs.recipe.input_facts import Inputs
from vmtool.rootfs.recipe.layer import Account, Overlay, OverlayFile
from vmtool.rootfs.recipe.models import Recipe

SYSTEM = "/etc/systemd/system"
HOOK = "nvidia-container-toolkit.sh"
TRACE = "/run/vmtool/hook.trace"
_KATA_UNITS = ("kata-agent.service", "kata-containers.target", "tmp.mount")


def render(name: str, **values: object) -> str:
    """A template of templates/rootfs; the same values give the same bytes."""
    return render_template(f"rootfs/{name}", **values)


def make_overlay(recipe: Recipe, epoch: int, inputs: Inputs) -> Overlay:
    """The overlay.

    Raises:
        Refused: two parts of the recipe write the same file; Kata's agent is no program.
    """
    files = [_file(each.path, text=each.text, mode=int(each.mode, 8), uid=each.uid, gid=each.gid) if each.source is None
             else OverlayFile(each.path, int(each.mode, 8), each.uid, each.gid, None, each.source,
                              inputs.files[each.source]) for each in recipe.files]
    links: dict[str, str] = {}
    # Every guest shall get one of its own; and a name server or host name of the build host's is nobody's business.
    files += [_file("/etc/machine-id", text="", mode=0o444), _file("/etc/hostname", text="guest\n"),
              _file("/etc/resolv.conf", text="")]
    if recipe.kata:
        files += _kata(recipe.kata.agent, inputs)
        links[f"{SYSTEM}/basic.target.wants/kata-containers.target"] = "../kata-containers.target"
    if recipe.hook:
        files += _hook(recipe)
    if recipe.units.default:
        links[f"{SYSTEM}/default.target"] = f"/usr/lib/systemd/system/{recipe.units.default}"
    links |= {f"{SYSTEM}/{unit}": "/dev/null" for unit in recipe.units.mask}
    given = {each.path for each in recipe.files}
    files = [each for number, each in enumerate(files) if number < len(recipe.files) or each.path not in given]
    paths = [each.path for each in files]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise Refused(f"{recipe.name}: written twice: {', '.join(twice)}")
    enable = [*recipe.units.enable, *(["nvidia-cdi.service"] if recipe.hook and recipe.hook.kind == "cdi" else [])]
    return Overlay(epoch, tuple(sorted(files, key=lambda each: each.path)), dict(sorted(links.items())),
                   tuple(Account(**user.model_dump()) for user in recipe.users), tuple(enable),
                   drop=("/boot", "/var/cache", "/var/log"))


def hook_path(recipe: Recipe) -> str:
    """Where the prestart hook is; empty when the recipe has none."""
    return f"{recipe.hook.path}/prestart/{HOOK}" if recipe.hook and recipe.hook.kind == "prestart" else ""


def _hook(recipe: Recipe) -> list[OverlayFile]:
    hook = recipe.hook
    if hook and hook.kind == "cdi":
        return [_file(f"{SYSTEM}/nvidia-cdi.service", text=render("nvidia-cdi.service"))]
    toolkit = hook.toolkit if hook else ""
    return [_file(hook_path(recipe), text=render("prestart-hook.sh", toolkit=toolkit, trace=TRACE), mode=0o755)]


def _kata(agent: Path, inputs: Inputs) -> list[OverlayFile]:
    if inputs.agent_head != b"\x7fELF" and inputs.agent_head[:2] != b"#!":
        raise Refused(f"{agent}: not a program, so it is not Kata's agent",
                      hint="take kata-agent from the Kata release that the host runs")
    units = [_file(f"{SYSTEM}/{name}", text=render(name)) for name in _KATA_UNITS]
    return [OverlayFile(AGENT, 0o755, 0, 0, None, agent, inputs.files[agent]), *units]


def _file(path: str, *, text: str | None, mode: int = 0o644, uid: int = 0, gid: int = 0) -> OverlayFile:
    return OverlayFile(path, mode, uid, gid, text, None, "")
