"""The plan of an import, its undo, and the plan of a canary model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import plans
from vmtool.containerd.endpoint import Endpoint
from vmtool.errors import Refused
from vmtool.image.archive import Contents
from vmtool.image.installed import ImportedImage
from vmtool.image.plan_import import built_record, foreign_record, plan_import
from vmtool.paths import State
from vmtool.plan import Plan, shell_lines

STATE = State(Path("/s"))
PRIVATE = Endpoint(Path("/run/p.sock"), private=True)
SYSTEM = Endpoint(Path("/run/containerd/containerd.sock"), private=False)
ARCHIVE = Path("/a.tar")
DIGEST = "ab" * 32
NEW = built_record("tiny", "docker.io/vmtool/tiny", DIGEST, PRIVATE)


def lines(plan: Plan) -> list[str]:
    """What the import asks of containerd, but for the leases."""
    actions = plans.step(plan, "import ").actions
    return [line.partition("vmtool ")[2] for line in plans.lines(actions)
            if line.startswith("ctr ") and " leases " not in line]


def done(plan: Plan, title: str) -> list[str]:
    return list(shell_lines(plans.step(plan, title).actions))


def undo(plan: Plan, title: str = "import ") -> list[str]:
    return plans.lines(plans.step(plan, title).undo)


def test_a_built_image_is_known_by_its_input_and_as_the_latest() -> None:
    assert NEW.references == ("docker.io/vmtool/tiny:abababababab", "docker.io/vmtool/tiny:latest")
    plan = plan_import(STATE, PRIVATE, ARCHIVE, NEW, None, digests={}, tag=(NEW.references[0], NEW.references[1]))
    assert lines(plan)[:2] == [
        "images import /a.tar",
        "images tag --force docker.io/vmtool/tiny:abababababab docker.io/vmtool/tiny:latest"]
    *_, last = done(plan, "import ")
    assert last.startswith("install -m 0600 /dev/stdin /s/images/tiny/image.json"), "it is known when it is there"


def test_leases_of_a_killed_import_go_when_its_names_are_gone() -> None:
    plan = plan_import(STATE, PRIVATE, ARCHIVE, NEW, None, digests={}, local=True)
    assert lines(plan)[:1] == ["images import --local /a.tar"]
    found = [line.partition("vmtool ")[2] for line in undo(plan)]
    forget, leases = (next(number for number, line in enumerate(found) if line.startswith(text))
                      for text in (f"images remove {NEW.references[-1]}", "leases list --quiet "))
    assert forget < leases, "what the names hold goes with the leases then, before the next line"


def test_an_older_build_goes_and_the_way_back_forgets_everything() -> None:
    old = ImportedImage("tiny", ("docker.io/vmtool/tiny:000000000000", "docker.io/vmtool/tiny:latest"), "0", "x", True)
    plan = plan_import(STATE, PRIVATE, ARCHIVE, NEW, old, digests={})
    assert "images remove docker.io/vmtool/tiny:000000000000" in lines(plan)
    assert "images remove docker.io/vmtool/tiny:latest" not in lines(plan)
    for reference in (*old.references, *NEW.references):
        assert any(line.endswith(f"images remove {reference}") for line in undo(plan))


def test_a_private_containerd_is_woken_for_it_and_put_to_rest() -> None:
    plan = plan_import(STATE, PRIVATE, ARCHIVE, NEW, None, digests={})
    assert "containerd --config" in "\n".join(done(plan, "containerd: "))
    assert any("exec containerd" in line for line in undo(plan)), "rm must reach it as well"
    assert "users/image-tiny" in "\n".join(done(plan, "stop the private containerd"))


def test_the_systems_containerd_is_left_alone() -> None:
    plan = plan_import(STATE, SYSTEM, ARCHIVE, built_record("tiny", "docker.io/vmtool/tiny", DIGEST, SYSTEM), None,
                       digests={})
    assert [bool(step.skip) for step in plan.steps] == [True, False, True]
    assert not any("setsid" in line for line in undo(plan))


def test_an_archive_from_elsewhere_keeps_its_names() -> None:
    record, base = foreign_record(Contents("docker", ("docker.io/acme/llm:1.2", "ghcr.io/a/b:x"), ()), ARCHIVE, SYSTEM)
    assert (record.name, record.references, record.input, base) == (
        "acme-llm-1-2", ("docker.io/acme/llm:1.2", "ghcr.io/a/b:x"), "", "")


def test_an_archive_with_a_tag_only_gets_a_name() -> None:
    record, base = foreign_record(Contents("oci", (), ("v1",)), ARCHIVE, SYSTEM, "docker.io/acme/llm")
    assert record.references == ("docker.io/acme/llm:v1",)
    plan = plan_import(STATE, SYSTEM, ARCHIVE, record, None, digests={}, base_name=base)
    assert lines(plan)[0] == "images import --base-name docker.io/acme/llm /a.tar"


@pytest.mark.parametrize(("contents", "name", "why"), [
    (Contents("oci", (), ("v1",)), "", "no full name"), (Contents("oci", (), ("v1",)), "UPPER/x", "no full name"),
    (Contents("oci", (), ("v1",)), "x y/z; rm", "no full name"), (Contents("oci", (), ("",)), "a/b", "neither name"),
    (Contents("oci", ("a/b:1",), ()), "c/d", "already"), (Contents("oci", ("a/b:1",), ("x",)), "", "several"),
    (Contents("oci", (), ("x", "y")), "a/b", "several"),
    # containerd would join the two: docker.io/a/b:../../x
    (Contents("oci", (), ("../../x",)), "docker.io/a/b", "which is no name"),
    (Contents("oci", (), ("docker.io/EVIL/A:1",)), "", "which is no name"),
    (Contents("oci", (), ("v1",)), "docker.io/a//b", "no full name"),
])
def test_names_are_neither_guessed_nor_overruled(contents: Contents, name: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        foreign_record(contents, ARCHIVE, SYSTEM, name)
