"""What adds an extra: packages that most of vmtool does without (setup.cfg, options.extras_require)."""

from __future__ import annotations

import sys

from vmtool.errors import shell_word


def adding(extra: str) -> str:
    """The command that adds one to this vmtool: of a checkout its own setup, else that of pip."""
    from vmtool.rendering import shipped  # who has what it needs never asks

    setup = shipped("scripts") / "setup"
    if setup.exists():
        return f"{shell_word(setup)} --extra {extra}"
    return f"{shell_word(sys.executable)} -I -m pip install 'vmtool[{extra}]'"
