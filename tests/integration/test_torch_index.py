"""Where the CPU build of torch comes from: pip's own settings, else the recipe's index; checked by its hash.

A server on loopback stands in for both, with a wheel that has torch's name. What download.pytorch.org itself answers
is not checked here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vmtool.errors import ProgramFailed
from vmtool.host.local import LocalHost
from vmtool.image.recipe import Recipe, find_recipe, read_recipe
from vmtool.image.wheels import fetch

WHEEL = "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
INFO = "torch-2.13.0+cpu.dist-info"


class Index:
    """A directory that is served: /pypi knows another torch only, /cpu the one that is locked."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        self.wheel = root / "cpu" / "torch" / WHEEL
        self.wheel.parent.mkdir(parents=True)
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n")
            archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_x86_64\n")
        self.digest = hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        (self.wheel.parent / "index.html").write_text(f'<a href="{WHEEL.replace("+", "%2B")}">{WHEEL}</a>')
        (root / "pypi" / "torch").mkdir(parents=True)
        (root / "pypi" / "torch" / "index.html").write_text('<a href="torch-2.13.0-cp311-none-any.whl">torch</a>')
        index = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *words: object) -> None:
                index.asked.append(self.path)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "served")
    yield index
    index.server.shutdown()
    index.server.server_close()


def fetched(index: Index, tmp_path: Path, *settings: tuple[str, str], digest: str = "") -> list[str]:
    """The files that the step of the build brings, with pip's settings of a plain machine but for these."""
    lock = tmp_path / "torch.lock"
    lock.write_text(f"torch==2.13.0+cpu --hash=sha256:{digest or index.digest}\n")
    read = read_recipe(find_recipe("vllm-cpu"))
    recipe = dataclasses.replace(read, indexes=(("torch.lock", f"{index.url}/cpu"),))
    # pip's own file of this user and machine may know more than a plain machine's.
    environment = (("PIP_CONFIG_FILE", os.devnull), ("PIP_INDEX_URL", f"{index.url}/pypi"), ("PIP_NO_CACHE_DIR", "1"),
                   ("HOME", str(tmp_path)), ("no_proxy", "127.0.0.1"), *settings)
    with open(os.devnull, "w") as log:
        fetch(recipe, lock, tmp_path / "wheels", environment).do(LocalHost(log))
    return sorted(os.listdir(tmp_path / "wheels"))


def test_with_pips_default_settings_the_recipes_index_is_asked_for_torch_only(index: Index, tmp_path: Path) -> None:
    assert fetched(index, tmp_path) == [WHEEL]
    assert [path for path in index.asked if path.startswith("/cpu")] == [
        "/cpu/torch/", f"/cpu/torch/{WHEEL.replace('+', '%2B')}"]


def test_where_pips_settings_find_it_the_recipes_index_is_not_asked(index: Index, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / WHEEL).write_bytes(index.wheel.read_bytes())
    assert fetched(index, tmp_path, ("PIP_FIND_LINKS", str(kept))) == [WHEEL]
    assert not [path for path in index.asked if path.startswith("/cpu")]


def test_a_wheel_with_another_hash_is_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed) as failed:
        fetched(index, tmp_path, digest="0" * 64)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in "\n".join(failed.value.details)
    assert "pip config set" in failed.value.hint
    assert not (tmp_path / "wheels" / WHEEL).exists()


def test_the_recipe_names_the_projects_own_index_for_torch_and_for_nothing_else() -> None:
    recipe: Recipe = read_recipe(find_recipe("vllm-cpu"))
    assert recipe.indexes == (("torch.lock", "https://download.pytorch.org/whl/cpu"),)
    for lock in recipe.locks:
        words = fetch(recipe, lock, Path("/w"), ()).shell()
        assert ("download.pytorch.org" in words) is (lock.name == "torch.lock")
