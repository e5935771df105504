"""Hints that name programs of the system, typed: in a network namespace of their own, or where they change nothing.

What needs hardware, installs packages, loads modules or ends services is not typed: `NOT_TYPED` says which and why.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.hints import Hint, collect

# Beginnings of hints, and why nobody types them here.
NOT_TYPED = {
    r"apt-get install ": "installs packages; that they exist is asked of apt",
    r"modprobe ": "loads modules of the host's kernel",
    r"systemctl ": "starts or ends the host's services", r"(kill|umount|rm|chown|chmod|ln|cp|mkdir|git) ": "of X only",
    r"nvidia-smi ": "needs a GPU", r"driverctl ": "needs a device", r"qemu-img ": "of a file of the user's",
    r"virsh ": "needs a libvirt", r"containerd --version": "typed by doctor's own tests", r"ctr ": "needs a containerd",
    r"CNI_COMMAND=": "typed by the networks' tests", r"iptables -w": "needs rules of a network",
    r"(dmesg|df) (shows|tells)|mount it |convert the |reboot the |containerd knows ": "a sentence",
    r"echo X > ": "changes a module of the host's kernel",
    r"grep |e2fsck|ls X|ls -l X|ip link show|df -h X|findmnt --target X": "of X only",
}
TYPED = ("getconf PAGESIZE", "free -b", "ip netns list", "ss -Htlnp", "ps -ef | grep qemu",
         "iptables -N CNI-ADMIN; iptables -I CNI-ADMIN -m conntrack --ctstate DNAT -j ACCEPT")
PROGRAM = re.compile(r"^(?:[A-Z_]+=\S+ )?([a-z][a-z0-9_-]*)( |$)")
HINTS = collect()


def starts_with_a_program(hint: Hint) -> bool:
    found = PROGRAM.match(hint.text)
    return bool(found and found[1] not in ("vmtool", "use", "install", "free", "look", "name", "cut", "link",
        "set", "read",
                                           "make", "write", "split", "join", "test", "build", "see", "that",
                                               "as", "end")
                and shutil.which(found[1]))


def test_every_hint_with_a_program_is_typed_or_it_is_said_why_not() -> None:
    loose = [hint for hint in HINTS if starts_with_a_program(hint) and hint.text not in TYPED
             and not any(re.match(each, hint.text) for each in NOT_TYPED)]
    assert loose == []


@pytest.mark.parametrize("line", TYPED)
def test_it_works_when_it_is_typed_on_a_fresh_host(line: str) -> None:
    assert any(hint.text == line for hint in HINTS), "a row that no hint has is stale"
    done = subprocess.run(["unshare", "--net", "bash", "-c", line], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_packages_that_hints_name_exist() -> None:
    names = {name for hint in HINTS for found in re.findall(r"apt-get install ([a-z0-9 .+-]+)", hint.text)
             for name in found.split() if name != "X"}
    done = subprocess.run(["apt-cache", "policy", *sorted(names)], capture_output=True, text=True, timeout=60)
    known = set(re.findall(r"^([a-z0-9.+-]+):$", done.stdout, re.MULTILINE))
    assert names - known == set()
