"""The key file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmtool.serving.api_keys import read_keys


def test_each_line_is_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the operators\n{'a' * 16}\n\n  {'b' * 20}  \n")
    assert read_keys(path) == (b"a" * 16, b"b" * 20)


@pytest.mark.parametrize(("text", "why"), [
    ("", "no API key"), ("# only a remark\n", "no API key"), ("short\n", "at least 16"),
    (f"{'a' * 16}\nshort\n", "at least 16"), ("two words are not a key\n", "one ASCII word"), ("ä" * 16, "ASCII"),
])
def test_a_file_without_usable_keys_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        read_keys(path)
