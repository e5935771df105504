"""The unpacked tools: what is in the cache is not unpacked again, and an ordinary user needs ids for packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from vmtool.cache import Cache
from vmtool.debian.tools import plan_tools, read_unpacked, tools_dir
from vmtool.errors import NotReady
from vmtool.plan import Plan, plan_lines

CACHE = Cache(Path("/c"))
STATUS = "Name:\tvmtool\nUid:\t{0}\t{0}\t{0}\t{0}\n"


def host(user: int, *paths: str) -> Recorded:
    return Recorded({"texts": {"/proc/self/status": STATUS.format(user)}, "exists": list(paths)})


def test_what_is_in_the_cache_is_not_unpacked_again() -> None:
    step = plan_tools(read_unpacked(host(0, str(tools_dir(CACHE))), CACHE), CACHE, (), ())
    assert step.skip == "in the cache"


def test_root_needs_no_further_ids() -> None:
    step = plan_tools(read_unpacked(host(0), CACHE), CACHE, (), (), what="tools")
    lines = "\n".join(plan_lines(Plan("s", Path("/j"), (step,))))
    assert "unshare --mount --pid --fork --kill-child --mount-proc mmdebstrap" in lines
    assert "--map-auto" not in lines


def test_an_ordinary_user_without_newuidmap_is_not_ready() -> None:
    with pytest.raises(NotReady, match="newuidmap: no such program") as error:
        read_unpacked(host(1000), CACHE)
    assert error.value.hint == "apt-get install uidmap, or become root"
