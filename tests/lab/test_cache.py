"""The store of parts: made once, made again when damaged or made from something else; nothing is left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.lab import cache, mirror
from tests.lab.cache import Part, ensure
from tests.lab.images import load_order

Made = list[str]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of our own, and no memory of what was verified."""
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    monkeypatch.setattr(cache, "_seen", {})
    return tmp_path


def part(made: Made, name: str = "part", recipe: str = "one", inputs: tuple[Part, ...] = (), text: str = "x") -> Part:
    def make(target: Path, scratch: Path, contents: tuple[Path, ...]) -> None:
        made.append(name)
        (scratch / "waste").write_text("w")
        (target / "file").write_text(text + "".join((each / "file").read_text() for each in contents))
        (target / "link").symlink_to("file")

    return Part(name, (recipe,), make, inputs)


def again(wanted: Part) -> cache.Built:
    """As another process would ask for it."""
    cache._seen.clear()
    return ensure(wanted)


def test_a_part_is_made_once() -> None:
    made: Made = []
    first, second = ensure(part(made)), again(part(made))
    assert (made, second.seconds, first.digest) == (["part"], 0.0, second.digest)


@pytest.mark.parametrize("damage", [
    lambda path: (path / "file").write_text("y"),
    lambda path: (path / "file").chmod(0o700),
    lambda path: (path / "link").unlink(),
    lambda path: (path / "more").write_text(""),
    lambda path: (path.parent / "seal.json").write_text("{"),
    lambda path: (path.parent / "seal.json").unlink(),
], ids=["bytes", "mode", "missing", "foreign", "seal cut", "seal missing"])
def test_a_damaged_part_is_made_again(damage: object) -> None:
    made: Made = []
    built = ensure(part(made))
    assert callable(damage)
    damage(built.path)
    assert again(part(made)).digest == built.digest
    assert made == ["part", "part"]
    assert (built.path / "file").read_text() == "x"


def test_another_recipe_is_another_part() -> None:
    made: Made = []
    assert ensure(part(made)).path != ensure(part(made, recipe="two")).path
    assert made == ["part", "part"]


def test_another_mirror_makes_another_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the recipe had its address from the start: it is only asked for later."""
    made: Made = []
    for address in ("http://one/debian", "http://two/debian"):
        monkeypatch.setattr(mirror, "debian_mirror", lambda address=address: address)
        built = ensure(part(made, recipe=f"deb {mirror.MIRROR} bookworm main"))
        assert json.loads((built.path.parent / "seal.json").read_text())["recipe"] == [f"deb {address} bookworm main"]
    assert made == ["part", "part"]


def test_an_input_with_other_bytes_makes_what_is_above_it_anew() -> None:
    made: Made = []
    ensure(part(made, "upper", inputs=(part(made, "lower"),)))
    lower = part(made, "lower", recipe="newer", text="newer")
    assert (again(part(made, "upper", inputs=(lower,))).path / "file").read_text() == "xnewer"
    assert made == ["lower", "upper", "lower", "upper"]


def test_of_each_name_the_parts_used_last_are_kept(empty: Path) -> None:
    for age, recipe in enumerate(("three", "two", "one", "now")):
        place = ensure(part([], recipe=recipe)).path.parent
        os.utime(place, (1e9 + age, 1e9 + age) if age < 2 else None)
    ensure(part([], "other"))
    kept = {json.loads((place / "seal.json").read_text())["recipe"][0] for place in empty.glob("part-*/")}
    assert kept == {"one", "now"}


def test_an_interrupted_part_leaves_nothing(empty: Path) -> None:
    def make(target: Path, _scratch: Path, _contents: tuple[Path, ...]) -> None:
        (target / "half").write_text("h")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(Part("part", ("one",), make))
    assert [path.name for path in empty.iterdir()] == ["part.lock"]


def test_what_a_killed_session_left_is_swept(empty: Path) -> None:
    (empty / ".part-left/new").mkdir(parents=True)
    made: Made = []
    ensure(part(made))
    assert not (empty / ".part-left").exists()


def test_holes_of_a_file_do_not_count(tmp_path: Path) -> None:
    sparse, full = tmp_path / "a", tmp_path / "b"
    for directory in (sparse, full):
        directory.mkdir()
    with (sparse / "image").open("wb") as file:
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(b"data")
    (full / "image").write_bytes(bytes(3 << 20) + b"data" + bytes((2 << 20) - 4))
    assert cache.digest(sparse) == cache.digest(full)
    (full / "image").write_bytes(bytes(4 << 20) + b"data" + bytes((1 << 20) - 4))
    assert cache.digest(sparse) != cache.digest(full)


def test_modules_are_inserted_after_what_they_need() -> None:
    table = ("a/ext4.ko: b/jbd2.ko c/crc16.ko\nb/jbd2.ko:\nc/crc16.ko:\n"
             "d/virtio_blk.ko.xz: e/virtio.ko.xz\ne/virtio.ko.xz:\n")
    assert load_order(table, ("virtio-blk", "ext4", "built_in")) == [
        "e/virtio.ko.xz", "d/virtio_blk.ko.xz", "c/crc16.ko", "b/jbd2.ko", "a/ext4.ko"]
