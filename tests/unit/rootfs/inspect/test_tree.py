"""What debugfs and dump.erofs are asked, and what their answers are taken for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady
from vmtool.rootfs.format.image_file import Extent, ImageFile
from vmtool.rootfs.inspect.tree import Node, open_tree, tree_at

IMAGE = Path("/i.img")
STAT = "Inode: 12   Type: regular    Mode:  0755   Flags: 0x80000\nUser: 0 Group: 0 Size: 42\n"
EROFS = "Path : /a\nSize: 42  On-disk size: 42  regular file\nNID: 9  Links: 1\nAccess: 0755/rwxr-xr-x\n"
LISTING = "/12/040755/0/0/.//\n/2/040755/0/0/..//\n/14/100755/0/0/b c/1/\n/13/100644/0/0/a/2/\n"


def image(holds: str, path: Path = IMAGE) -> ImageFile:
    return ImageFile(path, "kata", 9, 9, rootfs=Extent(4096, 9, holds))


def test_ext4_is_asked_by_debugfs_at_the_file_systems_place() -> None:
    host = Recorded({"outputs": {"debugfs -R 'stat \"/a\"' '/i.img?offset=4096'": {"out": STAT},
                                 "debugfs -R 'ls -p \"/d\"' '/i.img?offset=4096'": {"out": LISTING}}})
    tree = open_tree(host, Tools(None), image("ext4"))
    assert tree.look("/a") == Node("file", 0o755, 42)
    assert tree.look("/b") is None
    assert tree.names("/d") == ("a", "b c")


def test_erofs_is_asked_by_dump_erofs() -> None:
    ask = "dump.erofs --offset=4096 --path="
    host = Recorded({"outputs": {f"{ask}/a /i.img": {"out": EROFS}, f"{ask}/a --cat /i.img": {"out": "text"},
                                 f"{ask}/d --ls /i.img": {"out": " NID TYPE FILENAME\n  9  2  .\n 11  1  b c\n"}}})
    tree = open_tree(host, Tools(None), image("erofs"))
    assert tree.look("/a") == Node("file", 0o755, 42)
    assert tree.text("/a") == "text"
    assert tree.names("/d") == ("b c",)


@pytest.mark.parametrize(("holds", "argv"), [
    ("ext4", ("x", "-R", 'cat "/lib/a.ko"', "/i.img?offset=7")),
    ("erofs", ("x", "--offset=7", "--path=/lib/a.ko", "--cat", "/i.img"))])
def test_a_files_bytes_are_printed_by_a_program(holds: str, argv: tuple[str, ...]) -> None:
    tree = tree_at(Recorded({}), ("x",), holds, IMAGE, 7)
    assert tree.cat("/lib/a.ko") == argv
    assert tree.cat('/a" quit') == ()


def test_what_cannot_be_read_is_told() -> None:
    with pytest.raises(NotReady, match="what follows a question mark as options"):
        open_tree(Recorded({}), Tools(None), image("ext4", Path("/i?x")))
    with pytest.raises(NotReady, match="it is qcow2, not a guest image"):
        open_tree(Recorded({}), Tools(None), ImageFile(IMAGE, "qcow2", 9, 9))
