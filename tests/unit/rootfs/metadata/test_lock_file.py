"""The lock file: read strictly, checked against what was installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from vmtool.errors import Refused, VmtoolError
from vmtool.rootfs.metadata.lock_file import completed, differences, read_lock
from vmtool.rootfs.metadata.packages import Package, lock_text
from vmtool.rootfs.metadata.workers.compare_lock import Order, compare, run

ONE, OTHER = "1" * 64, "2" * 64
CURL = Package("curl", "7.88", "amd64", ONE)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    driver = {"version": "535.1", "kernel": "6.1", "modules": ["nvidia"]}
    path.write_text(lock_text("r", [CURL], driver))
    assert read_lock(path) == ((CURL,), driver)
    path.write_text(lock_text("r", [], {}))
    assert read_lock(path) == ((), {})


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"schema": "vmtool/rootfs-lock/v2"}),
                                  json.dumps({"schema": "vmtool/rootfs-lock/v1", "recipe": "r", "driver": {},
                                              "packages": [{"name": "a", "version": "1", "architecture": "all",
                                                            "sha256": "short"}]})])
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(Refused, match="not a lock file"):
        read_lock(path)
    with pytest.raises(Refused, match="no such file"):
        read_lock(tmp_path / "absent")


@pytest.mark.parametrize(("found", "line"), [
    ([CURL], None), ([], "curl 7.88 of the lock is missing"),
    ([CURL, Package("jq", "1.6", "amd64", ONE)], "jq 1.6 is not in the lock"),
    ([Package("curl", "7.89", "amd64", ONE)], "curl is 7.89, the lock has 7.88"),
    ([Package("curl", "7.88", "amd64", OTHER)], f"curl 7.88 has sha256 {OTHER}, the lock has {ONE}"),
    ([Package("curl", "7.88", "amd64", "")], f"curl 7.88 has sha256 (unknown), the lock has {ONE}")])
def test_each_difference_is_named(found: list[Package], line: Any) -> None:
    assert differences([CURL], found) == ([line] if line else [])


def test_a_hash_that_only_the_earlier_list_knows_is_kept() -> None:
    bare = Package("curl", "7.88", "amd64")
    assert completed([bare, Package("jq", "1", "all")], [CURL]) == (CURL, Package("jq", "1", "all"))


def test_an_image_is_held_against_a_lock_with_its_driver(tmp_path: Path) -> None:
    one, other, listing = tmp_path / "one.json", tmp_path / "other.json", tmp_path / "packages.txt"
    one.write_text(lock_text("r", [CURL], {"version": "535.1", "kernel": "6.1", "modules": []}))
    other.write_text(lock_text("another recipe", [CURL], {}))
    listing.write_text(f"Package: curl\nVersion: 7.88\nArchitecture: amd64\nSHA256: {ONE}\n")
    assert compare(one, one) == compare(one, listing) == []
    assert compare(one, other) == ["the driver is none, the lock has 535.1 for 6.1"]
    listing.write_text("")
    assert compare(one, listing) == ["curl 7.88 of the lock is missing"]


def test_an_error_names_the_first_differences_in_their_order_and_the_output_has_all(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock, listing = tmp_path / "lock.json", tmp_path / "packages.txt"
    lock.write_text(lock_text("r", [Package(f"p{number}", "1", "all") for number in range(9)], {}))
    listing.write_text("")
    with pytest.raises(VmtoolError, match=f"9 differ from {lock}") as error:
        run(Order(lock, listing), FakeHost())
    lines = [f"p{number} 1 of the lock is missing" for number in range(9)]
    assert error.value.details == (*lines[:7], "and 2 more")
    assert capsys.readouterr().out.splitlines() == lines
