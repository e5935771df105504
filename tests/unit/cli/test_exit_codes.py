"""Exit codes, and the order in which an error is shown: scripts decide by the one, people read the other."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import vmtool
from tests.fakes.typed import launchable, typed
from vmtool import errors as e
from vmtool.attest.server.errors import NotNow, NotVerified, Unreachable
from vmtool.cli import main as cli
from vmtool.image.actions import DamagedCache

CODES: dict[type[e.Explained], int] = {
    e.Explained: 1, e.Interrupted: 130,
    e.VmtoolError: 1, e.Refused: 2, e.NotReady: 3, e.VerificationFailed: 4, e.ProgramMissing: 3, e.ProgramFailed: 1,
    DamagedCache: 1, e.Damaged: 1,
    NotVerified: 4, NotNow: 4, Unreachable: 1,
}


def family(kind: type[e.Explained]) -> Iterator[type[e.Explained]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def test_every_class_of_error_is_in_the_table() -> None:
    """Also one that is defined far from the others."""
    for module in pkgutil.walk_packages(vmtool.__path__, "vmtool."):
        if module.name == "vmtool.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            # A library that only an image, or only some hosts have.
            assert not str(error.name).startswith("vmtool")
    assert {kind for kind in family(e.Explained) if kind.__module__.startswith("vmtool.")} == set(CODES)


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", str(value)))
def test_an_error_has_its_code_and_is_shown_in_one_order(kind: type[e.Explained], code: int,
                                                         monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    error = kind("it failed", details=("one", "two"), hint="vmtool doctor", log="/l/host.log")
    assert (kind.code, ended(error, monkeypatch)) == (code, code)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["error: it failed", "  one", "  two", "hint: vmtool doctor", "log: /l/host.log"]


@pytest.mark.parametrize(("error", "code", "shown"), [
    (click.UsageError("no such option"), 2, "Error: no such option\n"),
    (click.ClickException("it failed"), 1, "Error: it failed\n"),
    (click.exceptions.Exit(4), 4, ""),
    (click.Abort(), 130, ""),
    (KeyboardInterrupt(), 130, ""),
    (BrokenPipeError(), 1, ""),
    (OSError(30, "Read-only file system", "/s/x"), 3,
     "error: /s/x: read-only file system\nhint: findmnt --target /s\n"),
    (OSError(28, "No space left on device", "/s/x"), 3,
     "error: /s/x: no space left on device\nhint: make room there: df -h /s\n"),
    (OSError(5, "Input/output error", "/s/x"), 1, "error: /s/x: input/output error\n"),
    (PermissionError(13, "Permission denied", "/s/x"), 3, "error: /s/x: permission denied\nhint: become root\n"),
], ids=lambda value: type(value).__name__)
def test_what_else_ends_a_command(error: BaseException, code: int, shown: str, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(error, monkeypatch) == code
    assert capsys.readouterr() == ("", shown)


def test_a_fault_of_vmtools_own_is_1_and_says_so(monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ZeroDivisionError("here"), monkeypatch) == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.splitlines()[-2:] == [
        "ZeroDivisionError: here",
        "This is a fault of vmtool itself. Please report it with the lines above."]


@pytest.mark.parametrize(("status", "code"), [(None, 0), (0, 0), (7, 7)])
def test_a_status_of_a_command_is_the_programs(status: int | None, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.vmtool, "main", lambda **words: status)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code


def ended(error: BaseException, patch: pytest.MonkeyPatch) -> object:
    """With what code the program ends when a command raises this."""
    def fail(**words: object) -> None:
        raise error

    patch.setattr(cli.vmtool, "main", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.parametrize(("words", "code"), [
    (("plan", "{}/spec.yaml", "--exit-code"), 5), (("plan", "{}/spec.yaml"), 0),
    (("status", "absent"), 1), (("plan", "{}/absent.yaml"), 2), (("status", "Not A Name"), 2),
    (("run",), 2), (("frobnicate",), 2), (("kata", "which"), 3), (("kata", "keys", "no-such-key"), 2),
    (("doctor", "--for", "kata"), 3), (("gpu", "cc-mode", "set", "on", "x"), 2), (("net", "check", "absent"), 1),
    (("rm", "absent"), 1), (("recover",), 0), (("ps",), 0),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value))
def test_commands_end_with_the_code_of_their_answer(words: tuple[str, ...], code: int, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    launchable(tmp_path / "state", tmp_path / "spec.yaml", monkeypatch)
    result = typed(tmp_path / "state", *(word.format(tmp_path) for word in words))
    assert getattr(result.exception, "code", result.exit_code) == code, (result.output, result.exception)


@pytest.mark.parametrize("words", [
    ("chat", "a", "b", "--timeout"), ("chat", "a", "b", "--temperature"), ("plan", "a.yaml", "--timeout"),
    ("run", "a.yaml", "--timeout"), ("gpu", "bind", "--deadline"), ("rootfs", "boot", "a.img", "--timeout"),
    ("stop", "a", "--grace"), ("metrics", "--otlp", "http://127.0.0.1:4318/v1/metrics", "--every"),
], ids=" ".join)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e300", "-1"])
def test_a_number_that_no_clock_can_hold_is_refused(words: tuple[str, ...], number: str,
                                                    monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """nan lies within every range; subprocess and sockets overflow at the others, in the middle of a command."""
    monkeypatch.setattr("sys.argv", ["vmtool", *words, number])
    with pytest.raises(SystemExit) as end:
        cli.run_command()
    assert end.value.code == 2
    assert f"Invalid value for '{words[-1]}'" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "package", "extra"), [
    (("ca",), "cryptography", "tls"), (("key",), "cryptography", "models"), (("key",), "rfc8785", "broker"),
    (("model", "encrypt"), "cryptography", "models")])
def test_a_command_without_its_package_names_the_extra_that_is_about_it(
        words: tuple[str, ...], package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> ModuleType:
        if module.startswith(f"vmtool.{modules[words[-1]]}"):
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return found(module)

    found = importlib.import_module
    modules = {"ca": "tls", "key": "models.key", "encrypt": "models.encryption"}
    monkeypatch.setattr(importlib, "import_module", missing)
    error = typed(tmp_path, *words).exception
    assert isinstance(error, e.ProgramMissing)
    assert error.hint.endswith(f" --extra {extra}")
