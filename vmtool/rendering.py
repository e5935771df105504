"""The files that travel with vmtool: templates and image recipes."""

from __future__ import annotations

from pathlib import Path


def shipped(kind: str) -> Path:
    """The directory of `templates` or `images`: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / kind if (package / kind).is_dir() else package.parent / kind


def render_plain(name: str, /, **values: object) -> str:
    """A template without markup, such as "rootfs/hook.sh"; the same values give the same bytes, an unknown name is an
    error. Whoever calls has made each value harmless where it comes to stand."""
    import jinja2  # takes longer than most commands

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(shipped("templates")),  # noqa: S701  (no markup)
                                     undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.get_template(f"{name}.j2").render(**values)
