"""What foreign text cannot do to whoever reads it, and arguments that are no text."""

from __future__ import annotations

import ast
import errno
import io
import os
import re
import sys
from pathlib import Path

import click
import pytest

from tests.sources import parsed
from vmtool.cli import main as cli
from vmtool.cli.output import print_json
from vmtool.cli.streams import SafeStream, harmless
from vmtool.errors import Refused, VmtoolError, system_error

BAD = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(("text", "shown"), [
    ("a\x1b[2Jb", "a\ufffd[2Jb"), ("a\x9b2Jb", "a\ufffd2Jb"), ("\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
    ("over\rwritten", "over\ufffdwritten"), ("dos\r\nlines\n\tindented", "dos\nlines\n\tindented"),
    ("\u202eevil\u2066", "\ufffdevil\ufffd"), ("lone \ud800", "lone \ufffd"), ("\x7f\b\0", "\ufffd" * 3),
    ("\u0645\u06cc\u200c\u062e 👩\u200d💻 é\u00a0x", "\u0645\u06cc\u200c\u062e 👩\u200d💻 é\u00a0x"),
])
def test_text_is_made_harmless_and_stays_what_it_is(text: str, shown: str) -> None:
    assert harmless(text) == shown


@pytest.mark.parametrize(("text", "encoding", "data"), [
    ("\x1b[31mred\x1b[0m \r\x1b[K\u2026 step\n", "utf-8", "\x1b[31mred\x1b[0m \r\x1b[K\u2026 step\n".encode()),
    ("\x1b]52;c;x\x07 \x1b[5A\x9b", "utf-8", "\ufffd]52;c;x\ufffd \ufffd[5A\ufffd".encode()),
    (f"no such file: {BAD}", "utf-8", b"no such file: caf\\udce9"), ("\u2713 done", "ascii", b"\\u2713 done"),
])
def test_a_stream_lets_colours_through_and_nothing_else(text: str, encoding: str, data: bytes) -> None:
    stream = SafeStream(buffer := io.BytesIO(), encoding=encoding, errors="backslashreplace", write_through=True)
    stream.write(text)
    assert buffer.getvalue() == data


class Full(io.RawIOBase):
    """A device that is full, /dev/full."""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_stream_is_called_by_its_name() -> None:
    stream = SafeStream(io.BufferedWriter(Full()), encoding="utf-8", write_through=True, line_buffering=True)
    with pytest.raises(OSError) as raised:
        stream.write("a line\n")
    error = system_error(raised.value, "vmtool")
    assert (error.message, error.hint) == ("standard output: no space left on device", "")


def test_a_json_document_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    said = "\x1b[2J \x9b \u202e \ud800 é\n"
    print_json(answer=said)
    printed = capsys.readouterr().out
    assert harmless(printed) == printed
    assert json.loads(printed)["answer"] == said


@pytest.mark.parametrize(("words", "environment", "said"), [
    (["plan", BAD], {}, "argument 2 is not UTF-8: caf\\xe9"), ([BAD], {}, "argument 1 is not UTF-8"),
    ([f"--state-dir={BAD}", "ps"], {}, "argument 1 is not UTF-8: --state-dir=caf\\xe9"),
    ([], {"VMTOOL_CACHE": BAD}, "VMTOOL_CACHE is not UTF-8"), ([], {"HOME": BAD}, "HOME is not UTF-8"),
])
def test_what_is_no_text_is_refused(words: list[str], environment: dict[str, str], said: str) -> None:
    with pytest.raises(Refused) as refused:
        cli.check_text(words, environment)
    assert refused.value.message.startswith(said)


def test_a_working_directory_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: f"/tmp/{BAD}")
    with pytest.raises(Refused, match="the working directory is not UTF-8"):
        cli.check_text([], {})


def test_text_in_other_scripts_and_foreign_variables_are_let_through() -> None:
    cli.check_text(["chat", "a", "é 你好 \u202e"], {"LS_COLORS": BAD})


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_refuses_it_with_exit_code_2(command: str, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["vmtool", command, BAD])
    with pytest.raises(SystemExit) as end:
        cli.run_isolated()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: argument 2 is not UTF-8: caf\\xe9\nhint: ")


def test_an_error_and_a_usage_error_show_foreign_text_harmlessly(monkeypatch: pytest.MonkeyPatch,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    for error in (VmtoolError("\x1b[31mred", details=["\x9b2J"], hint="\x07"), click.UsageError("\x1b]0;x")):
        def fail(error: Exception = error, **words: object) -> None:
            raise error

        monkeypatch.setattr(cli.vmtool, "main", fail)
        with pytest.raises(SystemExit):
            cli.run_isolated()
        shown = capsys.readouterr().err
        assert harmless(shown) == shown


ROUND = re.compile(r"sys\.__std(out|err)__|sys\.std(out|err)\.(buffer|fileno|detach)|/dev/(tty|stdout|stderr)|"
                   r"os\.write\((1|2),")
# Where that may be, and why.
RAW = {"serving": "prints in the guest: its log is shown by `vmtool logs`, which is a safe stream",
       "cli/streams.py": "makes the safe streams"}


def goes_round(tree: ast.Module) -> list[str]:
    """What in a module writes to the terminal past the safe streams."""
    nodes = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call | ast.Attribute))
    return sorted({found[0] for node in nodes if (found := ROUND.search(node))})


def test_whatever_is_printed_goes_through_the_safe_streams() -> None:
    """Foreign text reaches a terminal in one way: a stream that replaces what would steer it."""
    root = Path(cli.__file__).parents[1]
    found = {str(path.relative_to(root)): goes_round(parsed(path)) for path in sorted(root.rglob("*.py"))}
    assert not {name: what for name, what in found.items() if what and not name.startswith(tuple(RAW))}


@pytest.mark.parametrize("text", ["sys.stdout.buffer.write(b'x')", "os.write(2, b'x')", "open('/dev/tty', 'w')",
                                  "sys.__stderr__.write('x')"])
def test_it_would_see_another_way(text: str) -> None:
    assert goes_round(ast.parse(text))
