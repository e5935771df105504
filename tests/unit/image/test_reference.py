"""Short image names are completed as containerd's own tools complete them."""

from __future__ import annotations

import pytest

from vmtool.image.reference import full_reference


@pytest.mark.parametrize(("name", "full"), [
    ("vmtool/x", "docker.io/vmtool/x:latest"), ("x", "docker.io/library/x:latest"), ("x:1", "docker.io/library/x:1"),
    ("ghcr.io/a/b:2", "ghcr.io/a/b:2"), ("localhost/a", "localhost/a:latest"), ("h:5000/a", "h:5000/a:latest"),
    ("a/b@sha256:0", "docker.io/a/b@sha256:0"), ("h:5000/a:3", "h:5000/a:3"),
])
def test_a_registry_and_a_tag_are_added(name: str, full: str) -> None:
    assert full_reference(name) == full
