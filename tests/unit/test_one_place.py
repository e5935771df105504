"""What is a fact of one thing stands in one file: a second table of it would be forgotten when the first one grows."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.sources import parsed
from vmtool import architecture
from vmtool.tee.table import BY_NAME

PACKAGE = Path(architecture.__file__).parent
# file or folder that may hold a name of an architecture, with the reason for each but the first
ARCHITECTURES = {
    "architecture.py": "",
    "facts/cpu.py": "x86 is i686 too, which vmtool does not run on",
    "facts/kvm_probe.py": "a child that imports nothing of vmtool",
}
PLACES = {name: ARCHITECTURES for each in architecture.KNOWN for name in (each.machine, each.debian)}
# Evidence has sections for each TEE, and AMD calls a part of its firmware snp.
OF_TEES = {"tee/": "", "attest/": "the sections of reference values", "broker/": "the protocol's names, of more TEEs",
           "serving/kbs/": "likewise, in a guest, which has nothing else of the house",
           "serving/evidence/": "in a guest, likewise"}
PLACES |= {fact: OF_TEES for tee in BY_NAME.values()
           for fact in (tee.name, tee.title, tee.guest_node, tee.qemu.object, tee.libvirt.security)
           if fact}


@functools.cache
def constants(path: Path) -> set[str]:
    """The string constants of a module, its documentation aside."""
    return {node.value for node in ast.walk(parsed(path))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def holders(word: str) -> set[str]:
    """The modules that have a word as a constant."""
    return {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if word in constants(path)}


@pytest.mark.parametrize("word", PLACES)
def test_a_word_that_is_a_key_stands_in_its_own_file_only(word: str) -> None:
    assert {name for name in holders(word) if not any(name.startswith(place) for place in PLACES[word])} == set()


def test_no_exception_has_outlived_its_reason() -> None:
    places = {place for allowed in PLACES.values() for place in allowed}

    held = {name for word in PLACES for name in holders(word)}

    assert {place for place in places if not any(name.startswith(place) for name in held)} == set()


@pytest.mark.parametrize("known", architecture.KNOWN, ids=lambda known: known.machine)
def test_an_architecture_is_found_by_each_of_its_names(known: architecture.Architecture) -> None:
    assert architecture.BY_DEBIAN[known.debian] is known
    assert architecture.BY_MACHINE[known.machine] is architecture.architecture_of(known.machine) is known


def test_an_unknown_machine_is_taken_for_the_usual_one() -> None:
    assert architecture.architecture_of("riscv64") is architecture.AMD64
