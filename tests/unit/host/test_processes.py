"""How a program's end is told, as a sentence and as data."""

from __future__ import annotations

import pytest

from vmtool.errors import ProgramFailed
from vmtool.machine import Output, check


@pytest.mark.parametrize(("status", "how"), [
    (1, "exit status 1"), (-9, "died of SIGKILL"), (127, "exit status 127 (a program that it calls is missing)")])
def test_how_it_ended_is_known_without_its_words(status: int, how: str) -> None:
    argv = ("qemu", "-append", "a: b", "-x", "y", "z", "more")
    with pytest.raises(ProgramFailed) as error:
        check(argv, Output(status, "out\n\n", "err\n"), "look")
    assert error.value.how == how
    assert error.value.message == f"qemu -append 'a: b' -x y z ...: {how}"
    assert (error.value.details, error.value.hint) == (("out", "err"), "look")
    check(argv, Output(0, "", ""))


@pytest.mark.parametrize("text", [
    "mkdir: cannot create directory 'x': No space left on device", "write /x: no space left on device: unknown",
    "write error: Disk quota exceeded"])
def test_a_full_disk_is_named_and_a_hint_of_the_caller_stays(text: str) -> None:
    with pytest.raises(ProgramFailed) as error:
        check(("ctr",), Output(1, "", text))
    assert error.value.message == "ctr: exit status 1, since a disk is full"
    assert error.value.hint == "make room: df -h"
    with pytest.raises(ProgramFailed) as error:
        check(("ctr",), Output(1, text, ""), "df -h /var/lib")
    assert error.value.hint == "df -h /var/lib"
    check(("ctr",), Output(0, text, ""))
