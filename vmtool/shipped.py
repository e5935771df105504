"""Where the files that travel with vmtool lie: templates and image recipes."""

from __future__ import annotations

from pathlib import Path


def shipped(kind: str) -> Path:
    """The directory of `templates` or `images`: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / kind if (package / kind).is_dir() else package.parent / kind
