"""Root runs only our code: one place starts programs, one makes the words of a Python, whatever looks for a program,
a module or a setting of the caller's says why it may."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.command_lines import LINES, NET_LINES, leaves
from tests.sources import parsed
from vmtool import isolation
from vmtool.cli.main import vmtool
from vmtool.errors import NotReady, Refused
from vmtool.host.isolate import check_owner, isolate
from vmtool.image.recipe import find_recipe
from vmtool.rootfs.recipe.load import find_rootfs_recipe

ROOT = Path(__file__).parents[2]
VMTOOL = ROOT / "vmtool"
SOURCES = sorted(VMTOOL.rglob("*.py"))
IMAGES = sorted((ROOT / "images").rglob("Containerfile"))
SCRIPTS = (ROOT / "scripts/setup", ROOT / "scripts/quickstart")

# What starts a program in the place of, or beside, this one.
STARTS = re.compile(r"(subprocess\.(Popen|run|call|check_\w+|getoutput|getstatusoutput)|pty\.spawn|"
                    r"os\.(exec\w+|spawn\w+|posix_spawn\w*|system|popen)|asyncio\.create_subprocess_\w+|"
                    r"multiprocessing\.\w+|webbrowser\.\w+|sys\.executable)")
# What looks for programs, modules, libraries or settings where a person stands or where the environment leads.
LOOKS = re.compile(r"(shutil\.which|(\w+\.)*find_library|(ctypes\.)?(CDLL|cdll\.\w+)|runpy\.\w+|site\.\w+|netrc\.\w+|"
                   r"importlib\.(import_module|util\.\w+|metadata\.\w+)|entry_points|configparser\.\w+|"
                   r"os\.(environ|getenv\w*|getcwdb?|path\.expand\w+)|(\w+\.)*expanduser|Path\.(home|cwd)|"
                   r"tempfile\.\w+|__import__|exec|eval)")
IN_A_CONTAINER = "the server of an image, in its container"
STARTERS = {
    "extras.py": "starts nothing: a hint names the Python that the packages are for",
    "host/isolate.py": "vmtool itself, once more and isolated",
    "host/processes.py": "every other program",
    "isolation.py": "the words of every Python",
    "facts/recording.py": "gives vmtool's own Python the same name on each host",
    "serving/child.py": IN_A_CONTAINER, "serving/entrypoint.py": IN_A_CONTAINER,
}
ENVIRONMENT_OF_PACKAGES = "the cleaned environment: what programs get that fetch packages"
OF_ITS_ORDER = "in the TMPDIR that the plan gave the worker"
LOOKERS = {
    "host/processes.py": "programs in the fixed PATH",
    "host/uninterruptible.py": "libc, which every process has loaded", "host/clone.py": "likewise",
    "host/bounded_log.py": "likewise",
    "host/isolate.py": "the environment, to clean it",
    "cache.py": "the cleaned environment: where the cache is; `check_owner` looks at it",
    "paths.py": "the cleaned environment: where the state is; `check_owner` looks at it",
    "cli/main.py": "the cleaned environment: whether it is text",
    "models/commands.py": ENVIRONMENT_OF_PACKAGES,
    "serving/convert_gguf.py": "in the image: a scratch directory of its own",
    "image/commands.py": ENVIRONMENT_OF_PACKAGES, "rootfs/commands/add_package.py": ENVIRONMENT_OF_PACKAGES,
    "rootfs/commands/boot.py": ENVIRONMENT_OF_PACKAGES, "rootfs/commands/build.py": ENVIRONMENT_OF_PACKAGES,
    "rootfs/commands/foreign.py": ENVIRONMENT_OF_PACKAGES + "; the binding of guestfs in vmtool's own Python",
    "cli/lazy.py": "a module of vmtool, out of a table", "launch/stages.py": "likewise",
    "gpu/commands/show.py": "likewise", "plan/action.py": "a module of vmtool, by identifiers",
    "engine/worker.py": "a module of vmtool, by identifiers; the descriptor of its report",
    "attest/options.py": "an extra, in vmtool's own Python", "attest/commands.py": "a module of vmtool, by a constant",
    "attest/measure/launch_digest.py": "an extra, in vmtool's own Python",
    "gpu/cc_mode.py": "an extra, in vmtool's own Python", "image/facts.py": "pip, likewise",
    "rootfs/add/workers/guestfs_kernel.py": OF_ITS_ORDER, "rootfs/add/workers/guestfs.py": OF_ITS_ORDER,
    "rootfs/boot/workers/make_initramfs.py": OF_ITS_ORDER,
    "rootfs/grow/scratch_filesystem.py": "in the directory of the image",
    "broker/facts.py": "a path with a ~ in a configuration that a person named",
    "rootfs/recipe/load.py": "a path with a ~ in a recipe that a person named", "spec/load.py": "likewise, a spec",
    "serving/child.py": IN_A_CONTAINER, "serving/encrypted/prepare.py": IN_A_CONTAINER,
    "serving/encrypted/receive.py": IN_A_CONTAINER, "serving/encrypted/process.py": IN_A_CONTAINER,
    "serving/evidence/nvml.py": "NVIDIA's binding, in the guest's own Python",
    "connect/policy.py": "a path with a ~ in a policy that a person named",
    "serving/entrypoint.py": IN_A_CONTAINER, "serving/train_canary.py": IN_A_CONTAINER,
}


def users(pattern: re.Pattern[str]) -> set[str]:
    """The modules that name what matches."""
    return {str(path.relative_to(VMTOOL)) for path in SOURCES for node in ast.walk(parsed(path))
            if isinstance(node, ast.Attribute | ast.Name) and pattern.fullmatch(ast.unparse(node))}


def test_programs_are_started_in_one_place_only() -> None:
    assert users(STARTS) == set(STARTERS)


def test_whatever_looks_for_code_or_settings_says_why_it_may() -> None:
    assert users(LOOKS) == set(LOOKERS)


@pytest.mark.parametrize("code", [
    "subprocess.run(['x'])", "os.execvp('x', ())", "os.system('x')", "(sys.executable, '-m', 'pip')",
    "asyncio.create_subprocess_exec('x')"])
def test_the_search_finds_a_start(code: str) -> None:
    assert any(STARTS.fullmatch(ast.unparse(node)) for node in ast.walk(ast.parse(code)))


def programs(tree: ast.Module) -> Iterator[list[str]]:
    """The words of each tuple, list or call in a module that starts a Python by name, as in an image."""
    for node in ast.walk(tree):
        items = node.elts if isinstance(node, ast.Tuple | ast.List) else node.args if isinstance(node, ast.Call) else []
        words = [str(each.value) if isinstance(each, ast.Constant) else "?" for each in items]
        yield from (words[index:] for index, word in enumerate(words) if re.fullmatch(r"(\S*/)?python3[\d.]*", word))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_python_in_a_container_looks_for_modules_where_it_stands(path: Path) -> None:
    for words in programs(parsed(path)):
        assert words[1:2] in (["-P"], ["-I"]) or len(words) == 1, words


def test_the_search_finds_programs() -> None:
    assert sum(len(words) > 1 for path in SOURCES for words in programs(parsed(path))) >= 3
    assert list(programs(ast.parse("run(('python3', '-m', 'pip'))"))) == [["python3", "-m", "pip"]]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.parent.name)
def test_no_image_starts_modules_of_its_working_directory(path: Path) -> None:
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", path.read_text(), re.MULTILINE)
    assert json.loads(entrypoint)[:3] == ["python3", "-P", "-m"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_that_root_runs_take_nothing_from_the_environment(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#!/bin/bash -p\n")
    assert f"export PATH={isolation.PATH}\n" in text
    assert all(" -I " in line for line in text.splitlines() if re.search(r"(^|[ (])\S*/python3? ", line))


TRAPS = {"PATH": ".", "PYTHONPATH": ".", "LD_PRELOAD": "./x.so", "OPENSSL_CONF": "./x", "GCONV_PATH": ".",
         "PIP_PYTHON": "./x", "PIP_CONFIG_FILE": "./x", "XDG_CONFIG_HOME": ".", "BASH_ENV": "./x", "TMPDIR": ".",
         "CNI_PATH": ".", "CONTAINERD_ADDRESS": "./x", "LIBGUESTFS_HV": "./x", "PYDANTIC_DISABLE_PLUGINS": ""}


def test_vmtool_keeps_of_its_environment_only_what_it_needs() -> None:
    wanted = {"VMTOOL_CACHE": "/c", "PIP_INDEX_URL": "https://m", "https_proxy": "http://p", "TERM": "xterm"}
    kept = isolation.own_environment({**wanted, **TRAPS, "HOME": "/h"}, 1000)
    assert kept == {**wanted, "HOME": "/h", "PATH": isolation.PATH, "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    assert isolation.own_environment({"HOME": "/h"}, 0)["HOME"] == "/root"


@pytest.mark.parametrize(("isolated", "environ", "again"), [
    (False, {}, True), (True, {}, False), (True, {"LD_PRELOAD": "x"}, True), (True, {"GCONV_PATH": "x"}, True),
    (True, {"PYTHONPATH": "."}, False)])
def test_a_python_that_may_have_loaded_the_callers_is_started_anew(isolated: bool, environ: dict[str, str], again: bool,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, tuple[str, ...], dict[str, str]]] = []
    monkeypatch.setattr(sys, "flags", SimpleNamespace(isolated=isolated))
    monkeypatch.setattr(sys, "argv", ["/venv/bin/vmtool", "ps"])
    monkeypatch.setattr(os, "execve", lambda *words: started.append(words))
    monkeypatch.setattr(os, "environ", dict(environ))
    isolate()
    kept = isolation.own_environment({}, os.geteuid())
    assert started == ([(sys.executable, (sys.executable, "-I", "-m", "vmtool", "ps"), kept)] if again else [])
    assert os.environ == kept


@pytest.mark.parametrize(("uid", "mode", "refused"), [
    (0, 0o40700, ""), (0, 0o40755, ""), (1000, 0o40700, "belongs to user 1000"), (0, 0o40777, "writable for others"),
    (0, 0o40770, "writable for others")])
def test_root_trusts_no_directory_of_others(uid: int, mode: int, refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "stat", lambda path: os.stat_result((mode, 0, 0, 0, uid, 0, 0, 0, 0, 0)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if not refused:
        check_owner(Path("/s"))
        return
    with pytest.raises(NotReady, match=f"/s .*{refused}"):
        check_owner(Path("/s"))


@pytest.mark.parametrize("find", [find_recipe, find_rootfs_recipe])
def test_a_plain_name_of_a_recipe_is_not_looked_for_where_a_person_stands(find: object, tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vllm-cpu", "rootfs-minimal", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("kind: Trap\n")
    assert callable(find)
    name = "vllm-cpu" if find is find_recipe else "rootfs-minimal"
    assert tmp_path not in find(name).parents
    with pytest.raises(Refused, match=r"a path has a /, such as \./own"):
        find("own")
    assert tmp_path in (tmp_path / "own", *find("./own").parents)


def test_every_command_is_typed_where_a_stranger_lies_in_wait() -> None:
    typed = [*LINES, *NET_LINES]
    assert [name for name in leaves(vmtool) if not any(f"{line} ".startswith(f"{name} ") for line in typed)] == []
