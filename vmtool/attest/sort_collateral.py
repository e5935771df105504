"""Collateral by what it is: certificates, revocation lists, Intel's collateral, NVIDIA's reference manifests."""

from __future__ import annotations

from collections.abc import Iterable

from vmtool.attest.appraisal import describe
from vmtool.attest.cursor import require
from vmtool.attest.request import Collateral


def sort_collateral(files: Iterable[tuple[str, bytes]]) -> Collateral:
    """Sort files by their content. What is of no known kind, or damaged, becomes a problem."""
    given, problems = tuple(files), []
    if not given:
        return Collateral()
    from vmtool.attest.collateral_sorter import Sorter  # needs cryptography

    sorter = Sorter()
    for name, data in given:
        try:
            require(bool(data), "empty")
            sorter.add(data)
        except BaseException as error:
            problems.append(f"{name}: {describe(error)}")
    return Collateral(tuple(sorter.certificates), tuple(sorter.crls), tuple(sorter.tdx), tuple(sorter.rims),
                      tuple(problems))
