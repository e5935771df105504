"""Driver branch against GPU, as a table."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from vmtool.errors import Refused
from vmtool.gpu.device_types import MODELS, NVIDIA
from vmtool.rootfs.recipe.gpu_support import ROWS, branch_of, check_fit, device_ids
from vmtool.rootfs.recipe.models import Driver

H100, B200, V100, A100 = 0x2330, 0x2901, 0x1DB1, 0x20B0


def driver(**changes: Any) -> Driver:
    return Driver.model_validate({"packages": ["nvidia-open-kernel-dkms"]} | changes)


@pytest.mark.parametrize(("changes", "host"), [
    ({}, ()), ({}, (H100, B200)), ({"branch": "535"}, (H100, A100)), ({"branch": "570"}, (B200,)),
    ({"branch": "535", "gpu": ["nvidia-h100"]}, (B200,)), ({"branch": "535", "gpu": ["10de:20b0"]}, ()),
    ({"branch": "570", "gpu": ["nvidia-b200", "nvidia-h100"]}, ()), ({"branch": "100"}, (0xFFFF,))])
def test_a_driver_that_fits_or_may_fit_is_taken(changes: dict[str, Any], host: tuple[int, ...]) -> None:
    check_fit("r", driver(**changes), host)


@pytest.mark.parametrize(("changes", "host", "detail"), [
    ({"branch": "535"}, (B200,), "this host's GPU 10de:2901 is Blackwell, which needs branch 570 or later"),
    ({"branch": "515"}, (H100,), "Hopper, which needs branch 525"), ({}, (V100,), "before Turing"),
    ({"branch": "535", "gpu": ["nvidia-b200"]}, (), "nvidia-b200 is Blackwell"),
    ({"branch": "535", "gpu": ["10de:2901"]}, (H100,), "10de:2901 is Blackwell")])
def test_a_driver_that_does_not_fit_is_refused_with_the_branch_that_does(changes: dict[str, Any],
                                                                         host: tuple[int, ...], detail: str) -> None:
    with pytest.raises(Refused, match="does not fit the GPU") as refused:
        check_fit("r", driver(**changes), host)
    assert detail in refused.value.details[0]
    assert "gpu" in refused.value.hint or "branch" in refused.value.hint


def test_an_unknown_gpu_is_told() -> None:
    with pytest.raises(Refused, match="nvidia-h1000: no GPU that is known here"):
        check_fit("r", driver(gpu=["nvidia-h1000"]), ())


def test_the_installers_name_tells_its_branch() -> None:
    value = Driver.model_construct(run=Path("/d/NVIDIA-Linux-x86_64-550.127.08.run"), branch=None)
    assert branch_of(value) == 550
    assert branch_of(driver()) is None


def test_every_nvidia_model_has_one_row_and_no_row_overlaps() -> None:
    for (vendor, device), model in MODELS.items():
        if vendor == NVIDIA:
            assert device in device_ids(model.type)
            assert len([row for row in ROWS if row.first <= device <= row.last]) == 1
    ordered = sorted(ROWS, key=lambda row: row.first)
    assert all(one.last < other.first for one, other in itertools.pairwise(ordered))
