"""The rules of the house, held by a walk of the syntax trees; `python -m tests.test_architecture` prints its numbers.

A room is a folder of vmtool/. It imports only rooms of lower floors, and its own files. `LISTED` names what still
breaks a rule: a violation that is not listed fails, and so does a listed one that is gone, so the list only shrinks.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sources import parsed

ROOT = Path(__file__).parents[1]
GROUND = "ground"
# From the ground up; rooms of one line do not import each other. A table of names (cli.main.COMMANDS, the kinds of
# actions, the launchers) is the one way up. `serving` runs in the guest and knows nothing of the house.
FLOORS = (
    f"{GROUND} serving", "plan", "host", "engine", "cli",
    "facts", "debian tee", "spec",
    "endpoint containerd", "instance", "access net gpu qemu", "image", "rootfs models", "proof", "attest", "tls",
    "broker", "metrics", "stage", "bundle", "runc kata libvirt", "doctor", "launch", "watch connect", "__main__",
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}

EFFECTS = {"subprocess", "socket", "ctypes", "fcntl"}
EFFECT_CALLS = re.compile(r"os\.(fork|forkpty|kill|killpg|exec\w+|posix_spawn\w*|spawn\w+|system|popen)")
READS = {"read_text", "read_bytes", "write_text", "write_bytes", "open", "is_file", "is_dir", "is_symlink", "exists",
         "iterdir", "glob", "rglob", "stat", "lstat", "readlink", "resolve", "mkdir", "unlink", "touch"}
GUEST_LIBRARIES = {"aiohttp", "cryptography", "httptools", "multidict", "prometheus_client", "tokenizers", "torch",
                   "transformers", "uvicorn", "vllm", "yarl"}
# What a public function gives, and the names of the files in which it may stand.
HOMES = {
    "Step|Plan": r"plan(_\w+)?|stage|pipeline|commands|apply_plan",
    "Finding": r"(\w+_)?check(_\w+)?|(\w+_)?findings|stage|diagnose|lint|doctor|inspect",
    "Claim": r"proof|(\w+_)?claims|stage",
}

# rule -> why it is so today -> what breaks it.
LISTED: dict[str, dict[str, tuple[str, ...]]] = {
    "homes": {
        "a part of other rooms' plans, in the file of what it is about": (
            "containerd.endpoint gives Step", "debian.tools gives Step", "gpu.launch_devices gives Step",
            "gpu.services gives Step", "rootfs.build.debian_base gives Step",
            "rootfs.build.replace_files gives Step", "rootfs.build.rpm_base gives Step"),
        "devices that fit, or why none does": ("gpu.select gives Finding",),
    },
    "programs": {
        "a probe whose process may hang or be killed by KVM, without an order": ("facts.kvm_probe",),
    },
    "files": {
        "the one way to open what is foreign": ("foreign",),
        "what a person names: a document, a recipe, an archive": (
            "image.recipe", "image.wheels", "rootfs.metadata.manifest", "rootfs.recipe.load"),
        "what vmtool itself wrote, in its state directory or its package": (
            "extras", "proof.evidence", "rendering", "spec.kata_releases"),
        "a file's new content depends on whether the old one is the same": ("kata.install",),
        "appended to, and never read": ("broker.audit",),
        "encrypted models of gigabytes, and the keys for them": (
            "models.encryption.inspect", "models.encryption.keys", "models.encryption.progress"),
        "images of gigabytes: read by blocks, in place": (
            "rootfs.format.image_file", "rootfs.grow.undo_file", "rootfs.inspect.verify"),
    },
    "effects": {
        "a program of its own that makes a guest by ioctl, and may be killed": (
            "facts.kvm_probe imports ctypes", "facts.kvm_probe imports fcntl"),
    },
    "engine": {
        "an instance's state is what its journal says": ("instance.instance imports engine.journal",),
    },
}

# A function is read at a glance and a module in one sitting. As many are longer today, the longest of them by this
# much; the numbers only fall.
GLANCE, SITTING = 30, 170
LONGER = {"functions": (33, 39), "modules": (45, 351)}


@dataclass(frozen=True)
class Module:
    """One file of the house."""

    path: Path
    name: str
    tree: ast.Module
    imports: tuple[tuple[str, str], ...]

    @property
    def room(self) -> str:
        return room_of(self.name)

    @property
    def homes(self) -> tuple[str, ...]:
        """The file's name and those of its folders below the house."""
        return tuple(self.name.split("."))

    @property
    def pure(self) -> bool:
        """Whether it decides: a planner or a check."""
        return self.room not in ("plan", "host", "engine", "serving") and bool(
            re.fullmatch(r"(plan|check)(_\w+)?", self.path.stem)) and "commands" not in self.homes


House = Mapping[str, Module]
Rule = Callable[[House], Iterator[str]]


def read_house(root: Path) -> House:
    """Every module by its name below vmtool/, such as "net.check"."""
    trees = {_name(root, path): (path, parsed(path)) for path in sorted(root.rglob("*.py"))}
    return {name: Module(path, name, tree, tuple(_imports(ast.walk(tree), trees)))
            for name, (path, tree) in trees.items()}


def _name(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def _imports(nodes: Iterable[ast.AST], names: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """(the module as Python knows it, what is taken from it) of each import, wherever it stands."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield (whole, "") if whole.removeprefix("vmtool.") in names else (module, alias.name)


def room_of(name: str) -> str:
    """The room of a module: its folder; the files beside the folders are the ground."""
    room, dot, _ = name.partition(".")
    return room if dot or room in FLOOR else GROUND


def arrows(house: House) -> Iterator[tuple[Module, str]]:
    """Each import of another file of the house: who, and which module below vmtool/."""
    for module in house.values():
        for target, _ in module.imports:
            if target == "vmtool" or target.startswith("vmtool."):
                yield module, target.removeprefix("vmtool").removeprefix(".")


def floors(house: House) -> Iterator[str]:
    """A room imports only rooms of lower floors."""
    for module, target in arrows(house):
        room = room_of(target)
        if room != module.room and FLOOR[room] >= FLOOR[module.room]:
            yield f"{module.name} imports {room}"


def circles(house: House) -> Iterator[str]:
    """A file imports no file that imports it, be it late or through others; what only a type checker reads is no
    import."""
    below = {name: {target.removeprefix("vmtool.") for target, _ in _imports(_run(module.tree), house)} & house.keys()
             for name, module in house.items()}
    try:
        graphlib.TopologicalSorter(below).prepare()
    except graphlib.CycleError as error:
        yield " < ".join(error.args[1])


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """What is below a node, without what is there for a type checker."""
    for part in ast.iter_child_nodes(node):
        runs: Sequence[ast.AST] = (part,)
        if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING":
            runs = part.orelse
        for each in runs:
            yield each
            yield from _run(each)


def packages(house: House) -> Iterator[str]:
    """A folder's __init__.py gives its names, and holds no code."""
    yield from (module.name for module in house.values() if module.path.name == "__init__.py"
                and any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in module.tree.body))


def homes(house: House) -> Iterator[str]:
    """Steps are planned in plan*.py, findings made in check*.py, claims in proof.py; each has its file."""
    for module in house.values():
        given = " ".join(ast.unparse(node.returns) for node in module.tree.body if isinstance(node, ast.FunctionDef)
                         and not node.name.startswith("_") and node.returns)
        for kind, files in HOMES.items():
            if module.room not in (GROUND, "plan", "engine") and re.search(rf"\b({kind})\b", given) and not any(
                    re.fullmatch(files, word) for word in module.homes):
                yield f"{module.name} gives {kind.partition('|')[0]}"


def actions(house: House) -> Iterator[str]:
    """A kind of action is a class in its room's actions.py; the generic ones are plan/'s."""
    for module in house.values():
        for node in module.tree.body:
            bases = node.bases if isinstance(node, ast.ClassDef) and module.homes[-1] != "actions" else ()
            if module.room != "plan" and any(ast.unparse(base).rpartition(".")[2] == "Action" for base in bases):
                yield f"{module.name}.{getattr(node, 'name', '')}"


def programs(house: House) -> Iterator[str]:
    """What runs as a process of its own is a file in workers/."""
    for module in house.values():
        runs = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in module.tree.body)
        if runs and "workers" not in module.homes and module.room != "serving" and module.name != "engine.worker":
            yield module.name


def purity(house: House) -> Iterator[str]:
    """Planners and checks know facts: they take no Reader, import no os, and read no file."""
    for module in house.values():
        if not module.pure:
            continue
        yield from (f"{module.name} imports {target.rpartition('.')[2] if taken else target}" + (taken and f".{taken}")
                    for target, taken in module.imports
                    if target in ("os", "shutil", "platform", "time") or taken in ("Reader", "DeviceReader"))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else (
                    node.func.attr if isinstance(node.func, ast.Attribute) else "")
                if called in READS:
                    yield f"{module.name} calls {called}"


def files(house: House) -> Iterator[str]:
    """Files of the machine are read in facts, workers, commands and host/; what else reads some says why."""
    for module in house.values():
        homes = {word for name in module.homes for word in (name, name.rpartition("_")[2])}
        if module.room in ("host", "engine", "serving") or homes & {"facts", "workers", "commands"}:
            continue
        if any(isinstance(node, ast.Call) and _opens(node.func) for node in ast.walk(module.tree)):
            yield module.name


def _opens(called: ast.expr) -> bool:
    """Whether it is a call on a file, and not on a Reader or an archive."""
    if isinstance(called, ast.Name):
        return called.id == "open"
    return isinstance(called, ast.Attribute) and called.attr in READS and ast.unparse(called.value) not in (
        "reader", "host", "guest", "tarfile", "self", "libvirt")


def effects(house: House) -> Iterator[str]:
    """Only host/ starts programs, opens sockets, locks, forks and kills."""
    for module in house.values():
        if module.room in ("host", "serving"):
            continue
        yield from (f"{module.name} imports {target}" for target, _ in module.imports if target in EFFECTS)
        yield from (f"{module.name} calls {ast.unparse(node.func)}" for node in ast.walk(module.tree)
                    if isinstance(node, ast.Call) and EFFECT_CALLS.fullmatch(ast.unparse(node.func)))


def guest(house: House) -> Iterator[str]:
    """What runs in the guest has the standard library and its image's libraries."""
    known = sys.stdlib_module_names | GUEST_LIBRARIES | {"vmtool"}
    yield from (f"{module.name} imports {target}" for module in house.values() if module.room == "serving"
                for target, _ in module.imports if target.partition(".")[0] not in known)


def commands(house: House) -> Iterator[str]:
    """Only commands, view.py and cli/ know click."""
    for module in house.values():
        if module.room != "cli" and not {"commands", "view"} & set(module.homes):
            yield from (f"{module.name} imports click" for target, _ in module.imports
                        if target.partition(".")[0] == "click")


def engine(house: House) -> Iterator[str]:
    """Only cli/apply_plan.py calls the engine."""
    for module, target in arrows(house):
        if room_of(target) == "engine" and module.room != "engine" and module.name != "cli.apply_plan":
            yield f"{module.name} imports {target}"


def records(house: House) -> Iterator[str]:
    """Frozen dataclasses are those of frozen.py, which are quick to load; the guest has the standard library."""
    yield from (f"{module.name} imports {target}" for module in house.values()
                if module.room != "serving" and module.name != "frozen"
                for target, taken in module.imports if (target, taken) == ("dataclasses", "dataclass")
                and any(ast.unparse(by) == "dataclass(frozen=True)" for node in ast.walk(module.tree)
                        if isinstance(node, ast.ClassDef) for by in node.decorator_list))


def names(house: House) -> Iterator[str]:
    """A class that another room uses has a name that no other class of the house has."""
    places: dict[str, set[str]] = defaultdict(set)
    used = {taken for module in house.values() for target, taken in module.imports
            if target.startswith("vmtool") and room_of(target.removeprefix("vmtool").removeprefix(".")) != module.room}
    for module in house.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].add(module.name)
    yield from (f"{name}: {', '.join(sorted(where))}" for name, where in places.items()
                if len(where) > 1 and name in used)


RULES: tuple[Rule, ...] = (
    floors, circles, packages, homes, actions, programs, purity, files, effects, guest, commands, engine, records,
    names)


@pytest.fixture(scope="module")
def house() -> House:
    return read_house(ROOT / "vmtool")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.__name__))
def test_the_house_keeps_its_rules(house: House, rule: Rule) -> None:
    found = set(rule(house))
    listed = {violation for violations in LISTED.get(rule.__name__, {}).values() for violation in violations}
    assert not found - listed, f"{rule.__doc__} Mend it: the list only shrinks."
    assert not listed - found, "These are mended: take them off the list."


@pytest.mark.parametrize(("rule", "path", "text", "violation"), [
    (floors, "net/check.py", "def f():\n    from vmtool.launch.facts import x", "net.check imports launch"),
    (floors, "kata/a.py", "if TYPE_CHECKING:\n    import vmtool.libvirt.check", "kata.a imports libvirt"),
    (floors, "errors.py", "from vmtool import plan as p", "errors imports plan"),
    (floors, "serving/front.py", "from vmtool.errors import Refused", "serving.front imports ground"),
    (circles, "gpu/facts.py", "def f():\n    from vmtool.doctor.guests import x",
     "doctor.guests < gpu.facts < doctor.guests"),
    (packages, "net/__init__.py", "def f(): ...", "net"),
    (homes, "net/subnet.py", "def plan_subnet() -> tuple[p.Step, ...]: ...", "net.subnet gives Step"),
    (homes, "net/plan.py", "def judge() -> Iterator[Finding]: ...", "net.plan gives Finding"),
    (homes, "net/facts.py", "def look() -> Claim: ...", "net.facts gives Claim"),
    (actions, "net/chains.py", "class Remove(p.Action): ...", "net.chains.Remove"),
    (programs, "net/chains.py", "if __name__ == '__main__':\n    main()", "net.chains"),
    (purity, "net/check.py", "from vmtool.machine import Reader", "net.check imports machine.Reader"),
    (purity, "net/plan_add.py", "import os", "net.plan_add imports os"),
    (purity, "net/plan.py", "text = path.read_text()", "net.plan calls read_text"),
    (files, "net/subnet.py", "text = open('/etc/hosts').read()", "net.subnet"),
    (effects, "net/facts.py", "import subprocess", "net.facts imports subprocess"),
    (effects, "net/facts.py", "os.execvp('sh', ['sh'])", "net.facts calls os.execvp"),
    (guest, "serving/front.py", "import yaml", "serving.front imports yaml"),
    (commands, "net/facts.py", "import click", "net.facts imports click"),
    (engine, "net/commands.py", "from vmtool.engine import apply", "net.commands imports engine.apply"),
    (records, "net/facts.py", "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Net: ...",
     "net.facts imports dataclasses"),
    (names, "net/facts.py", "class Wish: ...\nclass Own: ...", "Wish: gpu.facts, net.facts"),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_sees_what_breaks_it(tmp_path: Path, rule: Rule, path: str, text: str, violation: str) -> None:
    for room in ("engine/apply", "gpu/facts", "launch/facts", "libvirt/check", "plan/step", "errors", "machine"):
        write(tmp_path / f"{room}.py", "")
    write(tmp_path / "plan/__init__.py", "")
    write(tmp_path / "gpu/facts.py", "class Wish: ...\nclass Own: ...")
    write(tmp_path / "doctor/guests.py", "from vmtool.gpu.facts import Wish")
    assert not list(rule(read_house(tmp_path)))
    write(tmp_path / path, text)
    assert list(rule(read_house(tmp_path))) == [violation]


def test_what_is_long_only_gets_shorter(house: House) -> None:
    for kind, lines, limit in (("functions", function_lines(house), GLANCE), ("modules", module_lines(house), SITTING)):
        long = {name: count for name, count in lines.items() if count > limit}
        found, allowed = (len(long), max(long.values(), default=0)), LONGER[kind]
        assert found[0] <= allowed[0] and found[1] <= allowed[1], f"{kind} over {limit} lines: {long}. Split what grew."
        assert found == allowed, f"Fewer or shorter {kind}: write {found} into LONGER, so that it stays."


def test_a_function_is_as_long_as_from_its_name_to_its_last_line(tmp_path: Path) -> None:
    write(tmp_path / "net/a.py",
          "@d\ndef f():\n    def g():\n        pass\n    return g\n\n\nclass C:\n    def f(self): 0")
    assert function_lines(read_house(tmp_path)) == {"net.a:2 f": 4, "net.a:3 g": 2, "net.a:9 f": 1}
    assert module_lines(read_house(tmp_path)) == {"net.a": 9}


def test_the_drawing_of_the_rooms_shows_each_in_its_place() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [re.findall(r"(\w+)/", line[:31]) for line in page.partition("## The rooms")[2].split("```")[1].splitlines()]
    drawn = [(row, room) for row, names in enumerate(reversed(rows)) for room in names]
    rooms = {room for _, room in drawn} | {GROUND, "serving", "__main__"}
    assert rooms == set(FLOOR) and len(drawn) == len(rooms) - 3
    assert not [f"{room} is drawn above {other}" for row, room in drawn for below, other in drawn
                if below < row and FLOOR[other] > FLOOR[room]]


def test_no_test_takes_anything_from_another_test_module() -> None:
    """What tests share lies in fakes/, a folder's cases.py or its conftest.py."""
    assert not [f"{path.relative_to(ROOT)} imports {target} {taken}".rstrip() for path in (ROOT / "tests").rglob("*.py")
                for target, taken in _imports(ast.walk(parsed(path)), {}) if target.startswith("tests")
                and any(name.startswith("test_") for name in (*target.split("."), taken))]


def test_no_test_takes_a_step_or_an_action_by_its_number() -> None:
    """A plan's layout is no promise: `tests.fakes.plans` finds a step by what it does, an action by its kind."""
    paths = (ROOT / "tests").rglob("*.py")
    assert not [f"{path.relative_to(ROOT)}:{node.lineno}" for path in paths for node in ast.walk(parsed(path))
                if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute)
                and node.value.attr in ("steps", "actions", "undo")]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def module_lines(house: House) -> dict[str, int]:
    return {name: len(module.path.read_bytes().splitlines()) for name, module in house.items()}


def function_lines(house: House) -> dict[str, int]:
    """How long each function is, those within others too, without its decorators."""
    return {f"{module.name}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
            for module in house.values() for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def numbers(house: House) -> Iterator[tuple[str, int | str]]:
    """What tells how the house is laid out, to be compared with an earlier one."""
    lines, functions = module_lines(house), function_lines(house)
    short = sum(count <= GLANCE for count in functions.values())
    folders: dict[str, set[Path]] = defaultdict(set)
    for module in house.values():
        folders[module.path.name].add(module.path.parent)
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, target in arrows(house):
        rooms[module.room] |= {room_of(target)} - {module.room}
    yield "files", len(house)
    yield "lines", sum(lines.values())
    yield "functions", len(functions)
    yield f"functions within {GLANCE} lines", f"{short} ({100 * short / len(functions):.1f} %)"
    yield "file names in several folders", sum(len(where) > 1 for name, where in folders.items() if name[0] != "_")
    yield "rooms", len({module.room for module in house.values()})
    below = {room: _below(rooms, room) for room in tuple(rooms)}
    yield "floors", max(_floor(rooms, below, room) for room in below)
    yield "room cycles", len({frozenset(other for other in below[room] if room in below.get(other, ()))
                              for room in below if room in below[room]})
    yield "arrows between rooms", sum(map(len, rooms.values()))
    yield "arrows back up", len({(line.partition(".")[0], line.rpartition(" ")[2]) for line in floors(house)})
    yield "lines in host/", sum(count for name, count in lines.items() if room_of(name) == "host")
    yield f"modules over {SITTING} lines", sum(count > SITTING for count in lines.values())


def _below(rooms: Mapping[str, set[str]], room: str) -> set[str]:
    """All that a room imports, through others too; itself when it stands in a cycle."""
    found: set[str] = set()
    ways = list(rooms.get(room, ()))
    while ways:
        if (other := ways.pop()) not in found:
            found.add(other)
            ways += rooms.get(other, ())
    return found


def _floor(rooms: Mapping[str, set[str]], below: Mapping[str, set[str]], room: str) -> int:
    """How many floors a room needs, itself counted; the rooms of a cycle share one."""
    return 1 + max((_floor(rooms, below, other) for other in below.get(room, ())
                    if room not in below.get(other, ())), default=0)


if __name__ == "__main__":
    for what, number in numbers(read_house(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "vmtool")):
        print(f"{what:32}{number}")
