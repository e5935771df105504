"""How long a guest of QEMU may take to start: fixed numbers fail for somebody, so it follows memory, vCPUs and GPUs."""

from __future__ import annotations

GIB = 1024


def dial_seconds(memory: int, vcpus: int, gpus: int, confidential: bool) -> int:
    """Seconds until the agent must answer.

    Args:
        memory: MiB. A confidential guest accepts and encrypts each page first, and a VFIO device pins all of it.
        gpus: each is reset, mapped (128 GiB and more of BARs) and, under confidential computing, sets up a session.
    """
    per_gib = (4 if confidential else 1) + (1 if gpus else 0)
    per_gpu = 120 if confidential else 60
    return 45 + -(-memory // GIB) * per_gib + 2 * vcpus + gpus * per_gpu


def create_seconds(memory: int, vcpus: int, gpus: int, confidential: bool) -> int:
    """Seconds for making the container: the guest's start and another minute for its mounts, devices and hooks."""
    return dial_seconds(memory, vcpus, gpus, confidential) + 60
