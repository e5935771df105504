"""Worker processes: orders are read strictly, and what fails in one is raised by the action as it was raised there."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pkgutil
import shlex
import signal
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmtool
from tests.fakes.host import FakeHost
from vmtool import errors
from vmtool import plan as p
from vmtool.engine import worker
from vmtool.errors import ProgramFailed, Refused, VmtoolError
from vmtool.isolation import private
from vmtool.machine import REPORT, Host, Output, Pairs
from vmtool.plan.error_report import CUT, LARGEST, decode_error, encode_error
from vmtool.plan.workers import order_text
from vmtool.records import record_of
from vmtool.rootfs.build.workers import extract, run_e2fsck

CLASSES = sorted((found for found in vars(errors).values()
                  if isinstance(found, type) and issubclass(found, VmtoolError)), key=lambda kind: kind.__name__)
# What is no text as well: names of files can hold it (PEP 383).
TEXT = st.text(st.characters(), max_size=60) | st.text(st.characters(categories=["Cs"]), max_size=3)


def workers() -> Iterator[types.ModuleType]:
    """Every module of a folder workers/ that has an order; what others share there has none."""
    for found in pkgutil.walk_packages(vmtool.__path__, "vmtool."):
        if ".workers." in found.name:
            module = importlib.import_module(found.name)
            if hasattr(module, "Order"):
                yield module


WORKERS = list(workers())


@dataclasses.dataclass(frozen=True)
class Order:
    """One of each type that an order may have."""

    text: str
    number: int
    flag: bool
    path: Path
    words: tuple[str, ...]
    table: Mapping[str, str]
    kind: Literal["a", "b"]
    inner: extract.Order | None = None


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A worker "test.sample" that does nothing, until the test says what."""
    module = types.ModuleType("vmtool.test.workers.sample")
    vars(module).update(Order=run_e2fsck.Order, run=lambda order, host: None)
    for name in ("vmtool.test", "vmtool.test.workers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def sample(**changes: Any) -> p.RunWorker:
    return p.RunWorker("test.sample", {"argv": ["x"]}, **changes)


def raising(error: BaseException) -> Any:
    def run(order: Any, host: Host) -> None:
        raise error

    return run


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__name__))
@given(message=TEXT, details=st.lists(TEXT, max_size=5), hint=TEXT, log=TEXT)
def test_every_class_of_error_crosses_the_border_as_it_is(kind: type[VmtoolError], message: str, details: list[str],
                                                          hint: str, log: str) -> None:
    there = decode_error(encode_error(kind(message, details=details, hint=hint, log=log)))
    assert there is not None
    assert (type(there), there.message, there.details, there.hint, there.log, there.code) == (
        kind, message, tuple(details), hint, log, kind.code)


def test_there_are_several_classes_with_codes_of_their_own() -> None:
    assert {kind.code for kind in CLASSES} == {1, 2, 3, 4}


def test_an_error_of_a_rooms_own_class_arrives_as_its_base() -> None:
    class OfARoom(Refused):
        pass

    there = decode_error(encode_error(OfARoom("no", hint="h")))
    assert there is not None and (type(there), there.message, there.hint) == (Refused, "no", "h")


def test_an_unknown_class_is_a_plain_error() -> None:
    """Of another vmtool's worker, say."""
    there = decode_error(encode_error(Refused("no")).replace(b"Refused", b"Unheard"))
    assert type(there) is VmtoolError


@pytest.mark.parametrize("error", [
    VmtoolError("m" * 2 * LARGEST, details=["d" * 2 * LARGEST], hint="h", log="l"),
    VmtoolError("m", details=[""] * 2 * LARGEST), VmtoolError("m", details=["\0" * 100] * LARGEST)])
def test_a_report_is_bounded_and_what_was_left_out_is_said(error: VmtoolError) -> None:
    report = encode_error(error)
    there = decode_error(report)
    assert there is not None
    assert len(report) < 1 << 20, "the parent reads no more"
    assert any(text.endswith(CUT) for text in (there.message, *there.details))
    assert there.message[:1] == "m"


@given(st.binary(max_size=80))
def test_a_report_that_is_none_is_no_error(report: bytes) -> None:
    assert decode_error(report) is None


@pytest.mark.parametrize("report", [
    b"", b"null", b"[]", b'"x"', b"1", b"[" * 100_000, b"\xff", b'{"error": "Refused"}',
    encode_error(Refused("m")).replace(b'"details": []', b'"details": [1]'),
    encode_error(Refused("m")).replace(b'"details": []', b'"details": "x"'),
    encode_error(Refused("m")).replace(b'"m"', b"null"), encode_error(Refused("m")).replace(b'"Refused"', b"[]"),
    encode_error(Refused("m")).replace(b'{"error"', b'{"more": 1, "error"')])
def test_a_report_with_anything_else_in_it_is_none(report: bytes) -> None:
    assert decode_error(report) is None


def test_the_action_raises_what_the_worker_raised(named: types.ModuleType) -> None:
    vars(named)["run"] = raising(Refused("no", details=("a", "b"), hint="do this", log="/l"))
    with pytest.raises(Refused, match="no") as error:
        sample(hint="or that").do(FakeHost())
    assert (error.value.details, error.value.hint, error.value.log) == (("a", "b"), "do this", "/l")
    assert error.value.code == 2


def test_the_actions_own_hint_is_given_where_the_worker_has_none(named: types.ModuleType) -> None:
    vars(named)["run"] = raising(Refused("no"))
    with pytest.raises(Refused) as error:
        sample(hint="or that").do(FakeHost())
    assert error.value.hint == "or that"


def test_an_error_of_the_systems_is_one_for_a_person(named: types.ModuleType) -> None:
    vars(named)["run"] = raising(OSError(28, "No space left on device", "/d/file"))
    with pytest.raises(VmtoolError, match=r"^/d/file: no space left on device$") as error:
        sample().do(FakeHost())
    assert error.value.hint == "make room there: df -h /d"
    vars(named)["run"] = raising(OSError(5, "Input/output error"))
    with pytest.raises(VmtoolError, match=r"^test\.sample: input/output error$"):
        sample().do(FakeHost())


class Silent(FakeHost):
    """Its workers end with this status, output and report."""

    def __init__(self, status: int, out: str = "", report: bytes = b"") -> None:
        super().__init__()
        self.answer = Output(status, out, ""), report
        self.given: list[tuple[Sequence[str], bytes, Pairs]] = []

    def work(self, argv: Sequence[str], stdin: bytes, *, deadline: float, env: Pairs = ()) -> tuple[Output, bytes]:
        self.given.append((argv, stdin, env))
        return self.answer


@pytest.mark.parametrize(("status", "how"), [(-9, "died of SIGKILL"), (1, "exit status 1"), (137, "exit status 137")])
def test_a_worker_that_ends_without_a_word_is_a_failed_program(status: int, how: str) -> None:
    with pytest.raises(ProgramFailed, match=rf"^worker test\.sample: {how}$") as error:
        sample(hint="h").do(Silent(status, "one\ntwo\n"))
    assert (error.value.details, error.value.hint) == (("one", "two"), "h")


@pytest.mark.parametrize("status", [0, 1])
def test_a_worker_that_reports_garbage_is_a_failed_program(status: int) -> None:
    with pytest.raises(ProgramFailed, match=r"^worker test\.sample: "):
        sample().do(Silent(status, "", b"\0garbage"))


def test_an_order_goes_to_standard_input_with_the_environment() -> None:
    host = Silent(0)
    sample(env=(("A", "b"),)).do(host)
    [(argv, stdin, env)] = host.given
    assert argv == (sys.executable, "-I", "-m", "vmtool.engine.worker", "test.sample", "-")
    assert (json.loads(stdin), env) == ({"argv": ["x"]}, (("A", "b"),))
    assert "unshare" in sample(prefix=private(root=True)).argv


@given(st.dictionaries(st.text(max_size=5), st.none() | st.text() | st.lists(st.text() | st.dictionaries(
    st.text(max_size=3), st.integers(), max_size=2)), max_size=4))
def test_the_shell_line_holds_the_order_whatever_is_in_it(order: dict[str, Any]) -> None:
    """A here-document: the shell takes every line up to the one that is EOF alone."""
    first, *lines = p.RunWorker("a.b", order).shell().split("\n")
    assert shlex.split(first)[-3:] == ["a.b", "-", "<<EOF"]
    assert lines.index("EOF") == len(lines) - 1
    assert json.loads("\n".join(lines[:-1])) == order


def test_a_short_order_is_a_line_and_a_long_one_a_line_for_each_value() -> None:
    assert order_text({"argv": ["x"]}) == '{"argv": ["x"]}'
    many = [{"path": "/a" * 20}, {"path": "/b" * 20}]
    assert order_text({"one": "x" * 80, "many": many}) == (
        '{\n "one": "' + "x" * 80 + '",\n "many": [\n  {"path": "' + "/a" * 20 + '"},\n  {"path": "' + "/b" * 20
        + '"}\n ]\n}')


def test_a_question_is_one_command_line() -> None:
    *start, name, order = p.question(run_e2fsck.Order(("e2fsck", "x y")))
    assert start == [sys.executable, "-I", "-m", "vmtool.engine.worker"]
    assert (name, json.loads(order)) == ("rootfs.build.run_e2fsck", {"argv": ["e2fsck", "x y"], "hint": ""})


def test_all_workers_are_known() -> None:
    assert len(WORKERS) > 20


@pytest.mark.parametrize("module", WORKERS, ids=lambda module: str(module.__name__))
def test_every_worker_has_a_frozen_order_and_a_run(module: types.ModuleType) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        vars(module.Order)["__setattr__"](object.__new__(module.Order), "changed", True)
    assert module.Order.__module__ == module.__name__, "the action names the worker by its order"
    assert module.run.__code__.co_varnames[:2] == ("order", "host")


st.register_type_strategy(Mapping, st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(Path, st.text("abc/ '$\n\udcff", min_size=1, max_size=12).map(lambda text: Path("/" + text)))


@pytest.mark.parametrize("kind", [Order, *(module.Order for module in WORKERS)], ids=lambda kind: str(kind.__module__))
@given(data=st.data())
def test_every_order_comes_back_as_it_was(kind: type[Any], data: st.DataObject) -> None:
    order = data.draw(st.from_type(kind))
    assert record_of(kind, order_text(p.to_json(order))) == order


RIGHT = {"text": "t", "number": 1, "flag": True, "path": "/p", "words": ["a"], "table": {"a": "b"}, "kind": "a"}
INNER = {"image": "/i", "start": 0, "size": 1, "out": "/o"}


def test_an_order_of_every_type() -> None:
    assert record_of(Order, json.dumps(RIGHT | {"inner": INNER})) == Order(
        "t", 1, True, Path("/p"), ("a",), {"a": "b"}, "a", extract.Order(Path("/i"), 0, 1, Path("/o")))


@pytest.mark.parametrize(("changes", "message"), [
    ({"text": 1}, r"Order\.text is 1"), ({"number": "1"}, "number is"), ({"number": 1.0}, "number is"),
    ({"number": True}, "number is true"), ({"flag": 1}, "flag is"), ({"flag": None}, "flag is null"),
    ({"path": 7}, "path is 7"), ({"kind": "c"}, "kind is"), ({"kind": []}, "kind is"), ({"words": "ab"}, "words is"),
    ({"words": ["a", 1]}, "words is 1"), ({"table": {"a": 1}}, r"table\.a is 1"), ({"table": []}, "table is"),
    ({"inner": {}}, r"Order\.inner is not whole"), ({"inner": 1}, "inner is 1"),
    ({"inner": INNER | {"force": True}}, r"inner has no 'force'"), ({"more": 1}, "has no 'more'")])
def test_an_order_with_anything_else_in_it_is_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record_of(Order, json.dumps(RIGHT | changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "[" * 100_000, json.dumps({"source": "/s"})])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"rootfs\.build\.cpio: not an order of this vmtool"):
        worker.do_order("rootfs.build.cpio", text, FakeHost())


@pytest.mark.parametrize("name", ["", "x", "rootfs.build.absent", "absent.x", "rootfs.build..cpio", "../x.y",
                                  "rootfs.build.workers.cpio", "rootfs.build.cpio.run"])
def test_a_name_that_is_no_workers_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="not a worker of this vmtool"):
        worker.do_order(name, "{}", FakeHost())


def test_a_module_that_only_helps_workers_takes_no_order() -> None:
    with pytest.raises(Refused, match="not a worker of this vmtool"):
        worker.do_order("rootfs.build.accounts", "{}", FakeHost())


def test_a_library_that_a_worker_lacks_is_not_taken_for_a_missing_worker(named: types.ModuleType) -> None:
    vars(named)["run"] = raising(ModuleNotFoundError("No module named 'guestfs'", name="guestfs"))
    with pytest.raises(ModuleNotFoundError):
        worker.do_order("test.sample", '{"argv": []}', FakeHost())


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """The signal handlers that the program sets."""
    found: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", found.__setitem__)
    return found


@pytest.mark.usefixtures("handler")
def test_typed_by_hand_an_error_is_text_and_the_exit_code_is_its_own(
        named: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(REPORT, raising=False)
    vars(named)["run"] = raising(Refused("no", details=("a",), hint="do this"))
    with pytest.raises(SystemExit) as end:
        worker.main(["test.sample", '{"argv": []}'])
    assert end.value.code == 2
    assert capsys.readouterr().err == "a\nno\nhint: do this\n"


@pytest.mark.usefixtures("handler")
def test_an_error_goes_to_the_descriptor_and_nothing_of_it_to_the_output(
        named: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "report", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    monkeypatch.setenv(REPORT, str(descriptor))
    seen: list[tuple[bool, str | None]] = []

    def run(order: Any, host: Host) -> None:
        seen.append((os.get_inheritable(descriptor), os.environ.get(REPORT)))
        raise Refused("no")

    vars(named)["run"] = run
    with pytest.raises(SystemExit):
        worker.main(["test.sample", '{"argv": []}'])
    there = decode_error((tmp_path / "report").read_bytes())
    assert type(there) is Refused and there.message == "no"
    assert capsys.readouterr() == ("", "")
    assert seen == [(False, None)], "what the worker starts does not get the descriptor"


def test_a_worker_that_is_ended_can_clean_up(named: types.ModuleType, monkeypatch: pytest.MonkeyPatch,
                                             handler: dict[int, Any], tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "report", os.O_RDWR | os.O_CREAT)
    monkeypatch.setenv(REPORT, str(descriptor))
    cleaned = []

    def run(order: Any, host: Host) -> None:
        try:
            handler[signal.SIGTERM](signal.SIGTERM, None)
        finally:
            cleaned.append(True)

    vars(named)["run"] = run
    with pytest.raises(SystemExit) as end:
        worker.main(["test.sample", '{"argv": []}'])
    assert (end.value.code, cleaned) == (130, [True])
    said = decode_error((tmp_path / "report").read_bytes())
    assert type(said) is VmtoolError and said.message == "the worker was ended by SIGTERM", "nobody interrupted us"


@pytest.mark.parametrize("words", [[], ["rootfs.build.cpio"], ["rootfs.build.cpio", "-", "x"]])
def test_other_words_are_answered_with_the_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"vmtool\.engine\.worker NAME ORDER"):
        worker.main(words)
