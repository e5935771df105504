"""Guest images by an ordinary user: the same bytes as root's, and nothing left when it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.machine import Vmtool, output
from tests.integration.rootfs_images import recipe

CHECKOUT = Path(__file__).parents[2]
# The checkout may lie where nobody else gets through, and the user has further ids (subuid(5)) in here only.
AS_NOBODY = """
checkout=$1 room=$2
shift 2
mount --make-rprivate /
mount --bind "$checkout" "$room/checkout"
mount --bind "$room/subuid" /etc/subuid
mount --bind "$room/subuid" /etc/subgid
cd "$room/checkout"
exec setpriv --reuid=nobody --regid=nogroup --clear-groups env -i PATH="$PATH" HOME="$room/home" \
    .venv/bin/python -m vmtool --state-dir "$room/home/state" "$@"
"""


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory that others can pass, with a home for nobody."""
    room = Path(tempfile.mkdtemp(prefix="vmtool-user-", dir="/var/tmp"))
    room.chmod(0o711)
    (room / "checkout").mkdir()
    (room / "subuid").write_text("nobody:100000:65536\n")
    (room / "home").mkdir()
    shutil.chown(room / "home", "nobody", "nogroup")
    yield room
    shutil.rmtree(room)


def argv(room: Path, *words: str | Path) -> list[str]:
    """vmtool as nobody, with a state directory and a cache of its own."""
    return ["unshare", "--mount", "sh", "-ec", AS_NOBODY, "sh", str(CHECKOUT), str(room), *map(str, words)]


def nobodys() -> list[str]:
    """The processes of nobody's and of its further ids."""
    rows = [line.split(maxsplit=2) for line in output("ps", "-eo", "uid=,stat=,args=").splitlines()]
    return [line for uid, stat, line in rows
            if (uid == "65534" or 100000 <= int(uid) < 165536) and not stat.startswith("Z")]


@pytest.mark.slow
@pytest.mark.timing
def test_an_ordinary_user_builds_the_same_bytes_and_a_kill_leaves_nothing(room: Path, tmp_path: Path) -> None:
    before, out, roots = nobodys(), room / "home" / "i.img", tmp_path / "i.img"
    path = recipe(room / "recipe", name="rootfs-tiny", packages=[], kernel=None, units={}, size="384Mi")
    build = argv(room, "rootfs", "build", path, "-o", out)
    with subprocess.Popen(build, stderr=subprocess.PIPE, text=True) as child:
        # mmdebstrap has unpacked packages, whose files belong to other ids than nobody's.
        while not list(room.glob("home/.cache/vmtool/rootfs/scratch/rootfs-tiny/tmp/*/var/lib/dpkg/status")):
            assert child.poll() is None, child.stderr and child.stderr.read()
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
    assert list(room.glob("home/.cache/vmtool/rootfs/scratch/*")), "else this test shows nothing"
    subprocess.run(argv(room, "recover"), check=True)
    assert not list(room.glob("home/.cache/vmtool/rootfs/scratch/*"))
    assert nobodys() == before
    subprocess.run(build, check=True)
    Vmtool(tmp_path / "state")("rootfs", "build", path, "-o", roots, timeout=900)
    assert subprocess.run(["cmp", out, roots]).returncode == 0
    assert out.stat().st_uid == 65534
    for words in (("rootfs", "resize", out, "+64M"), ("rootfs", "verify", out)):
        subprocess.run(argv(room, *words), check=True)
