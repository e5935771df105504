"""What vmtool puts into the initramfs of a guest of libvirt's: how it comes up, its agent, the workload's unit.

None of it depends on addresses or keys, so the same image and spec give the same initramfs, which a TEE measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmtool.attest.tpm.ask import HANDLE, HANDLE_AT, NONCE, NONCE_AT
from vmtool.libvirt.verity_table import table_line
from vmtool.rendering import render_template
from vmtool.serving.evidence.tpm_commands import key_command, quote_command
from vmtool.tee.table import BY_NAME

if TYPE_CHECKING:
    from vmtool.libvirt.facts import GuestImage

# Beside the root file system's own: for the other disks, the network, and the agent's port.
MODULES = ("crc32c_generic", "ext4", "virtio_net", "virtio_console")
VERITY_MODULES = ("dm_mod", "dm_verity", "sha256_generic")
# Of a TPM that are quoted: what firmware and kernel measure.
REGISTERS = tuple(range(10))
AGENT_PORT, LOG_PORT = "vmtool.agent", "vmtool.log"
DISKS = ("workload", "model")
# Where the guest's NVIDIA libraries come in; NVIDIA's own images look there.
DRIVER = "/usr/local/nvidia"
KEY = "/run/credentials/vmtool-workload.service/api-key"


def guest_files(image: GuestImage, command: Sequence[str], env: Sequence[tuple[str, str]] = (), *,
                devices: bool = False, dmsetup: str = "", tpm: bool = False,
                sealed: bool = False) -> dict[str, str]:
    """Name to text of every file; the image's own environment is added when the initramfs is made.

    Args:
        command: the workload's, as seen in its own root file system.
        env: the workload's, beside its image's.
        devices: whether it may see the guest's devices, GPUs that were passed on.
        tpm: whether the agent answers with quotes of the guest's TPM.
        sealed: whether the model is encrypted: then the workload may ask the TPM too, for the model's key.
        dmsetup: of this machine, when the disks are verified; `NAME.verity` is then added for each other disk.

    Raises:
        ValueError: the environment or command holds what a unit cannot.
    """
    further = {"programs": f"{dmsetup}\n"} if dmsetup else {}
    return further | {
        "init": render_template("libvirt/guest-init", filesystem=image.rootfs.holds, partition=image.partition,
                             target=image.target, disks=DISKS, dmsetup=dmsetup, root_table=_root_table(image)),
        "agent.sh": render_template("libvirt/guest-agent.sh", agent=AGENT_PORT, log=LOG_PORT,
                                    nodes=[tee.guest_node for tee in BY_NAME.values()],
                                    tpm=_tpm_commands() if tpm else None, shows_tpm=sealed and tpm),
        "vmtool-agent.service": render_template("libvirt/guest-agent.service"),
        "vmtool-ended.service": render_template("libvirt/guest-ended.service"),
        "vmtool-workload.service": render_template(
            "libvirt/guest-workload.service", command=" ".join(map(unit_word, ("/usr/bin/env", *command))),
            environment=[unit_word(f"{name}={value}", expands=False) for name, value in env], devices=devices,
            driver=DRIVER, tpm=sealed and tpm, sealed=sealed),
        "modules": "".join(f"{name}\n" for name in (*MODULES, *(VERITY_MODULES if dmsetup else ()))),
    }


def _tpm_commands() -> dict[str, str]:
    """What the agent sends to the TPM, in hexadecimal: the command for the key, and around the key's handle and the
    nonce the pieces of the one for a quote."""
    quote = quote_command(bytes(HANDLE), bytes(NONCE), REGISTERS).hex()
    after_handle = 2 * (HANDLE_AT + HANDLE)
    return {"key": key_command().hex(), "head": quote[:2 * HANDLE_AT], "middle": quote[after_handle:2 * NONCE_AT],
            "tail": quote[2 * (NONCE_AT + NONCE):]}


def _root_table(image: GuestImage) -> str:
    """As a shell's double quotes hold it; empty for an image that has no hashes."""
    if not image.verity:
        return ""
    return table_line("${disk}1", "${disk}2", image.verity.data_blocks, 0, image.verity.root_hash, image.verity.salt)


def unit_word(word: str, *, expands: bool = True) -> str:
    """One word of ExecStart= or Environment= as systemd reads it (systemd.service(5), systemd.syntax(7)).

    Args:
        expands: in ExecStart= a dollar names a variable; in Environment= it is a dollar.

    Raises:
        ValueError: it holds a line break or a zero byte.
    """
    if set(word) & set("\n\r\0"):
        raise ValueError(f"{word!r} holds a line break or a zero byte, which a guest's unit cannot")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text.replace("$", "$$") if expands else text}"'
