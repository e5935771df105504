"""The canary model: trained on the spot, and known to the letter."""

from __future__ import annotations

from vmtool import plan as p
from vmtool.containerd.endpoint import Endpoint
from vmtool.image.pinned_image import PinnedImage
from vmtool.models.plan_model import Maker, plan_model
from vmtool.models.target_facts import ModelTarget
from vmtool.paths import State

MAKER = Maker("canary", "train the canary model", ("python3", "-P", "-m", "vmtool.serving.train_canary"))


def plan_canary(state: State, endpoint: Endpoint, image: PinnedImage, found: ModelTarget) -> p.Plan:
    """As `plan_model`."""
    return plan_model(state, endpoint, image, found, MAKER)
