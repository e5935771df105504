"""Which trusted execution environment the host can give to guests, each with its evidence."""

from __future__ import annotations

from vmtool.facts.cpu import CpuFacts
from vmtool.facts.kvm import KvmFacts
from vmtool.machine import Reader
from vmtool.tee.table import BY_NAME
from vmtool.tee.tee import TeeSupport

# By the TEE's name.
TeeFacts = dict[str, TeeSupport]


def read_tee(reader: Reader, cpu: CpuFacts, kvm: KvmFacts) -> TeeFacts:
    """Look for each."""
    return {name: tee.read_support(reader, cpu, kvm) for name, tee in BY_NAME.items()}
