"""Foreign files: bounded, never more than parsed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtool.errors import Refused
from vmtool.kata.document import LIMIT, parse, read
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.target import LintTarget
from vmtool.spec.kata_releases import release_of, releases


@pytest.mark.parametrize(("text", "message"), [
    ("a = ", "not TOML"), ("[a]\n[a]\n", "not TOML"), ("a = 1\na = 2", "not TOML"),
    ("x = " + "[" * 40 + "]" * 40, "nested deeper"), (".".join("a" * 40) + " = 1", "nested deeper"),
    ("[" + ".".join("a" * 60_000) + "]", "nested deeper"), ("x = " + "[" * 100_000, "nested deeper"),
    ("x = " + "1" * 5000, "not TOML"), ("\n".join(f"k{n} = 1" for n in range(20_001)), "more than 20000 values"),
    ("x = {" + ".".join(['"a"'] * 50_000) + " = 1}", "nested deeper"),
])
def test_what_is_no_configuration(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse(text)


def test_dots_in_strings_and_comments_are_no_depth() -> None:
    text = f"a = \"{'.' * 100}\" # {'.' * 100}\nb = '{'.' * 100}'"
    assert parse(text).values == {"a": "." * 100, "b": "." * 100}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    big, binary = tmp_path / "big", tmp_path / "binary"
    big.write_bytes(b"#" * (LIMIT + 1))
    binary.write_bytes(b"a = \"\xff\"")
    for path, message in ((tmp_path / "none", "no such file"), (tmp_path, "not a regular file"),
                          (big, "larger than 1 MiB"), (binary, "not UTF-8")):
        with pytest.raises(Refused, match=message):
            read(path)


def test_the_largest_files_are_judged_in_no_time() -> None:
    """A key that is unknown is compared with all that are known, so their number is bounded."""
    text = "[hypervisor.qemu]\n" + "\n".join(f"{'default_memor' * 30}{n} = 0x{'f' * 4000}" for n in range(200))
    started = time.process_time()
    findings = lint(LintTarget(parse(f"{text}\ndefault_memory = 0x{'f' * 9000}"), release_of("4.1"), gpus=1))
    assert time.process_time() - started < 5
    assert sum(item.id == "key.unknown" for item in findings) == 200
    assert "type.range" in {item.id for item in findings}


@pytest.mark.parametrize("line", [". " * 20 + "x y " + ". " * 20, ("a" + " " * 50 + ".") * 30 + "b c." * 9,
                                  "a" * 1_000_000, '"' * 999_999, "[" + "a." * 30 + " " * 900_000, "\\" * 500_000])
def test_no_line_takes_long_to_refuse(line: str) -> None:
    started = time.process_time()
    with pytest.raises(Refused):
        parse(f"[hypervisor.qemu]\n{line}\n")
    assert time.process_time() - started < 2


KEYS = st.sampled_from(["default_memory", "image", "initrd", "kernel_params", "enable_annotations", "dial_timeout",
                        "cold_plug_vfio", "confidential_guest", "kernel_verity_params", "guest_extension_images", "x"])
SCALARS = st.booleans() | st.integers(-9, 1 << 70) | st.floats() | st.text(max_size=9)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
                      max_leaves=9)


@given(qemu=st.dictionaries(KEYS, VALUES) | VALUES, rest=st.dictionaries(st.sampled_from(["agent", "runtime", "z"]),
                                                                        VALUES))
def test_the_lint_judges_whatever_it_is_given(qemu: object, rest: dict[str, object]) -> None:
    """A foreign file may hold any type anywhere; each is told, and none is a fault of vmtool."""
    from vmtool.kata.document import Document

    document = Document("f", {"hypervisor": {"qemu": qemu}, **rest}, {})
    for release in releases():
        findings = lint(LintTarget(document, release, asked="snp", gpus=1))
        assert findings
        assert all(item.place == "f" for item in findings)


@pytest.mark.parametrize("before", [
    '# one """ in a comment\n', "# it's '''\n", 'x = 1 # """\n', "x = '# \"\"\"'\n", 'x = "a # \'\'\'"\n',
    'x = """a""" # """\n', 'x = """\n# \'\'\'\ny = 1"""\n', "x = '''a''''\n", "x = ''''a'''\n", 'x = """a\n""" # """\n',
])
def test_what_looks_like_quotes_in_a_comment_hides_no_key(before: str) -> None:
    document = parse(f"{before}[runtime]\nvfio_mode = 'x'\n")
    line = before.count("\n") + 2
    assert document.where("runtime", "vfio_mode") == f"configuration.toml:{line}"
    assert document.where("y") == "configuration.toml"
