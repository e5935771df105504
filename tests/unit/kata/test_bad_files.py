"""Files that are not a configuration, or hardly one: `vmtool kata check` refuses each in a moment, and names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmtool.cli.main import vmtool

GOOD = Path(__file__).parents[2] / "golden" / "kata" / "4.1-none.toml"


def check(path: Path) -> tuple[int, str]:
    """Exit code and everything that was said; an error is said as the command line would."""
    done = CliRunner().invoke(vmtool, ["kata", "check", str(path), "--kata-version", "4.1"])
    error = done.exception
    if error is not None and not isinstance(error, SystemExit):
        assert hasattr(error, "code"), f"a fault of vmtool itself: {error!r}"
        return error.code, f"{error} {getattr(error, 'hint', '')}"
    return done.exit_code, done.output


@pytest.mark.parametrize(("data", "code", "said"), [
    (b"", 4, "there is no [hypervisor.qemu]"), (b"\x7fELF\x02\x01\x01\x00", 2, "not TOML"),
    (b"\xff\xfe[\x00h\x00", 2, "not UTF-8 (byte 0)"), (b"#" * ((1 << 20) + 1), 2, "larger than 1 MiB"),
    (b"[hypervisor.qemu]\npath = ", 2, "not TOML"), (b"a\x00b = 1", 2, "not TOML"),
    (b"x = 1e400", 2, "out of range"), (b"hypervisor = 1", 4, "hypervisor is no table"),
    (b"[[hypervisor.qemu]]\npath = '/q'", 4, "hypervisor.qemu is no table"),
    (b"[hypervisor.qemu]\nx = 9223372036854775808", 4, "x is beyond 64 bits"),
])
def test_bytes_of_all_kinds(data: bytes, code: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "configuration.toml"
    path.write_bytes(data)
    found = check(path)
    assert found[0] == code
    assert said in found[1]


def test_a_pipe_and_a_directory_and_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    pipe, gone, loop = tmp_path / "pipe", tmp_path / "gone", tmp_path / "loop"
    os.mkfifo(pipe)
    gone.symlink_to(tmp_path / "nothing")
    loop.symlink_to(loop)
    for path, said in ((pipe, "not a regular file"), (tmp_path, "not a regular file"), (gone, "no such file"),
                       (loop, "too many levels of symbolic links")):
        assert check(path)[0] == 2
        assert said in check(path)[1]


def test_a_link_out_of_the_tree_is_followed_and_its_own_drop_ins_count(tmp_path: Path) -> None:
    real, near = tmp_path / "opt", tmp_path / "etc"
    for directory in (real / "config.d", near / "config.d"):
        directory.mkdir(parents=True)
    (real / "c.toml").write_text(GOOD.read_text())
    (real / "config.d" / "README").write_text("[runtime]\nvfio_mode = 'x'\n")
    (near / "config.d" / "10.toml").write_text("not TOML")
    (near / "c.toml").symlink_to(real / "c.toml")
    code, said = check(near / "c.toml")
    assert code == 4
    assert f"{real}/config.d/README:2: vfio_mode = 'x' is none of guest-kernel, vfio" in said


@pytest.mark.parametrize(("make", "said"), [
    (lambda place: (place / "sub").mkdir(), "sub is a directory, and the shim reads every entry of config.d as"),
    (lambda place: (place / "README").write_text("Drop-ins go here."), "README: not TOML"),
    (lambda place: (place / "gone").symlink_to("nothing"), "gone leads nowhere, and the shim reads every"),
    (lambda place: os.mkfifo(place / "pipe"), "pipe: not a regular file"),
    (lambda place: (place / "binary").write_bytes(b"\xff"), "binary: not UTF-8"),
])
def test_what_must_not_be_in_config_d(make: object, said: str, tmp_path: Path) -> None:
    """The shim reads every entry as a file, and does not start when it cannot."""
    (tmp_path / "c.toml").write_text(GOOD.read_text())
    (tmp_path / "config.d").mkdir()
    assert callable(make)
    make(tmp_path / "config.d")
    code, told = check(tmp_path / "c.toml")
    assert code == 2
    assert said in told


def test_config_d_itself_is_a_directory_or_nothing(tmp_path: Path) -> None:
    """The shim lists it, and passes over one that is not there (os.ReadDir and os.IsNotExist)."""
    (tmp_path / "c.toml").write_text(GOOD.read_text())
    (tmp_path / "config.d").write_text("")
    code, said = check(tmp_path / "c.toml")
    assert (code, "config.d is no directory, which the shim does not start with" in said) == (2, True)
    assert f"ls -la {tmp_path}/config.d" in said
    (tmp_path / "config.d").unlink()
    (tmp_path / "config.d").symlink_to("nothing")
    assert check(tmp_path / "c.toml")[0] == 0


def test_drop_ins_are_merged_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(GOOD.read_text())
    (tmp_path / "config.d").mkdir()
    for name, memory in (("9", 100), ("10", 4096), (".hidden", 200)):
        (tmp_path / "config.d" / name).write_text(f"[hypervisor.qemu]\ndefault_memory = {memory}\n")
    code, said = check(tmp_path / "c.toml")
    assert code == 0
    assert "config.d/9:2: default_memory = 100 (MiB) becomes 2048" in said


@pytest.mark.parametrize(("key", "value", "fits"), [
    ("default_memory", (1 << 32) - 1, True), ("default_memory", 1 << 32, False), ("default_memory", -1, False),
    ("default_maxmemory", (1 << 63) - 1, True), ("default_maxmemory", 1 << 63, False),
    ("default_maxmemory", -(1 << 63), True), ("default_maxmemory", -(1 << 63) - 1, False),
    ("default_vcpus", (1 << 24) - 1, True), ("default_vcpus", 1 << 24, False), ("default_vcpus", -(1 << 24), False),
])
def test_the_edges_of_every_integer_type(key: str, value: int, fits: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"[hypervisor.qemu]\n{key} = {value}\n")
    assert ("type.range" not in check(path)[1]) is fits
