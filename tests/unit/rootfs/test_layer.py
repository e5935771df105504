"""Laying an overlay over archives: who wins, links in the way, accounts, units, the same bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from vmtool.errors import Refused
from vmtool.rootfs.build.workers.merge_layers import Order, run
from vmtool.rootfs.metadata.packages import Package, parse
from vmtool.rootfs.recipe.layer import Account, Overlay, OverlayFile

UNIT = "[Unit]\nDescription=x\n[Install]\nWantedBy=multi-user.target \\\n graphical.target\nAlias=y.service\n"
BASE: dict[str, str] = {
    "./": "dir", "./etc/": "dir", "./etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "./etc/group": "root:x:0:\n",
    "./etc/shadow": "root:*:1::::::\n", "./lib": "-> usr/lib", "./usr/": "dir", "./usr/lib/": "dir",
    "./usr/lib/systemd/": "dir", "./usr/lib/systemd/system/": "dir", "./usr/lib/systemd/system/x.service": UNIT,
    "./usr/lib/modules/": "dir", "./usr/lib/modules/6.1/": "dir", "./usr/lib/modules/6.1/a.ko": "a",
    "./boot/": "dir", "./boot/vmlinuz-6.1": "kernel", "./usr/lib/b": "= ./etc/group"}

def archive(path: Path, members: dict[str, str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.mtime = 7
            if text == "dir":
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif text.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, text[3:]
            elif text.startswith("= "):
                info.type, info.linkname = tarfile.LNKTYPE, text[2:]
            info.size = len(text) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def laid(tmp_path: Path, *more: dict[str, str], base: dict[str, str] | None = None, **overlay: Any) -> dict[str, str]:
    """What the archive holds afterwards, in the same words."""
    tars = [archive(tmp_path / f"{number}.tar", members) for number, members in enumerate((base or BASE, *more))]
    run(Order(tuple(tars), tmp_path / "out.tar", Overlay(7, **overlay)), FakeHost())
    found = {}
    with tarfile.open(tmp_path / "out.tar") as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            found[info.name] = file.read().decode() if file else f"-> {info.linkname}" if info.issym() else (
                f"= {info.linkname}" if info.islnk() else "dir")
    return found


def file(path: str, text: str = "x") -> OverlayFile:
    return OverlayFile(path, text=text)


def test_a_later_archive_and_the_overlay_win_through_links(tmp_path: Path) -> None:
    found = laid(tmp_path, {"lib/modules/6.1/a.ko": "new", "lib/modules/6.1/n.ko": "n"},
                 files=(file("/lib/deep/er/c", "c"), file("/etc/hostname", "h")))
    assert found["usr/lib/modules/6.1/a.ko"] == "new"
    assert found["usr/lib/modules/6.1/n.ko"] == "n"
    assert (found["usr/lib/deep/er"], found["usr/lib/deep/er/c"]) == ("dir", "c")
    assert not any(name.startswith("lib/") for name in found)
    assert found["usr/lib/b"] == "= etc/group"


def test_directories_that_an_archive_leaves_out_are_made(tmp_path: Path) -> None:
    found = laid(tmp_path, {"usr/lib/modules/6.1/updates/dkms/n.ko": "n"})
    assert found["usr/lib/modules/6.1/updates"] == found["usr/lib/modules/6.1/updates/dkms"] == "dir"


def test_the_kernel_comes_out_and_the_rest_of_boot_goes(tmp_path: Path) -> None:
    found = laid(tmp_path, drop=("/boot",))
    assert [name for name in found if name.startswith("boot")] == ["boot"]
    assert (tmp_path / "vmlinuz").read_text() == "kernel"
    assert (tmp_path / "layer.json").read_text() == '{"kernel": "6.1"}'


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        laid(tmp_path, files=(file("/z"), file("/a")), users=(Account("app", 9, "/h", "/s"),))
        contents.append((tmp_path / "out.tar").read_bytes())
    assert contents[0] == contents[1]


def test_directories_come_before_what_is_in_them(tmp_path: Path) -> None:
    names = list(laid(tmp_path, files=(file("/a/b/c"), file("/a-b"))))
    assert all(name.rpartition("/")[0] in names[:place] for place, name in enumerate(names) if "/" in name)


def test_an_enabled_unit_is_linked_to_all_that_want_it(tmp_path: Path) -> None:
    found = laid(tmp_path, enable=("x.service",))
    target = "-> /usr/lib/systemd/system/x.service"
    for place in ("multi-user.target.wants/x.service", "graphical.target.wants/x.service", "y.service"):
        assert found[f"etc/systemd/system/{place}"] == target


def test_units_that_cannot_be_enabled_are_named(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        laid(tmp_path, enable=("no.service", "e.service"),
             files=(file("/etc/systemd/system/e.service", "[Unit]\n"),))
    assert [line.partition(" ")[2].split(" ")[0] for line in refused.value.details] == ["no.service", "e.service"]


def test_users_get_a_group_and_no_password(tmp_path: Path) -> None:
    found = laid(tmp_path, users=(Account("app", 900, "/srv", "/bin/false"),))
    assert found["etc/passwd"].endswith("app:x:900:900::/srv:/bin/false\n")
    assert found["etc/group"].endswith("app:x:900:\n")
    assert found["etc/shadow"].endswith("app:!:1::::::\n")


def test_a_taken_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has 'root:x:0:0:root"):
        laid(tmp_path, users=(Account("toor", 0, "/", "/"),))


@pytest.mark.parametrize(("table", "line", "message"), [
    ("shadow", "root:$y$abc:1::::::", "root has a password"), ("shadow", "app::1::::::", "app has an empty password"),
    ("passwd", "toor::0:0::/:/bin/sh", "toor has an empty password")])
def test_an_image_with_a_password_is_refused(tmp_path: Path, table: str, line: str, message: str) -> None:
    with pytest.raises(Refused, match="no passwords") as refused:
        laid(tmp_path, base={**BASE, f"./etc/{table}": line + "\n"})
    assert message in refused.value.details[0]


def test_a_directory_is_not_replaced_and_a_hard_link_not_orphaned(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="a directory of the packages is there"):
        laid(tmp_path, files=(file("/usr/lib"),))
    with pytest.raises(Refused, match="hard link to /etc/group"):
        laid(tmp_path, drop=("/etc",))


def test_packages_are_listed_once_with_their_hash() -> None:
    text = ("Package: a\nVersion: 1\nArchitecture: all\nStatus: ok\n\nPackage: a\nVersion: 1\nArchitecture: all\n"
            "SHA256: 11\n\nPackage: a\nVersion: 0\nArchitecture: all\nSHA256: 00\n\nnonsense\n")
    assert parse(text) == (Package("a", "0", "all", "00"), Package("a", "1", "all", "11"))
    assert parse("rpm bash 5-1 x86_64 ab\n") == (Package("bash", "5-1", "x86_64", "ab", "rpm"),)
