"""A host inside the host: network, mount and leases of its own, so that a test can make it as hostile as it likes.

The machine itself keeps its namespaces, bridges, iptables, /run, /var/lib and /etc/cni.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.machine import VMTOOL, Result

ROOT = Path(__file__).parents[2]
PLUGINS = "/usr/lib/cni"
# What a failed transaction leaves for a person to read.
MEMORY = ("/log/host.log", "/journal.jsonl", "/plan.json")
ADDRESS, NEIGHBOUR = "198.51.100.2", "198.51.100.9"
# The overlay keeps the real /etc readable; the plugins' files below /var/lib and /run are the inner host's own.
SETUP = f"""
set -e
mount --make-rprivate /
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir /run/upper /run/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work /etc
rm -rf /etc/cni
ip link set lo up
ip netns add lan
ip link add eth0 type veth peer name eth0 netns lan
ip addr add {ADDRESS}/24 dev eth0
ip link set eth0 up
ip -n lan addr add {NEIGHBOUR}/24 dev eth0
ip -n lan link set eth0 up
ip -n lan link set lo up
ip route add default via {NEIGHBOUR}
echo ready
exec sleep infinity
"""
SERVER = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen()
print("ready", flush=True)
while True:
    peer, address = server.accept()
    with peer:
        peer.sendall(f"{sys.argv[3]} {address[0]}".encode())
"""
CLIENT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as server:
        print(server.recv(99).decode(), end="")
except OSError:
    pass
"""


class NetHost:
    """The inner host; a context manager."""

    def __enter__(self) -> NetHost:
        self.children: list[subprocess.Popen[str]] = []
        self.keeper = self._start(["unshare", "--net", "--mount", "sh", "-c", SETUP])
        return self

    def __exit__(self, *error: object) -> None:
        for child in reversed(self.children):
            child.kill()
            child.wait()
            assert child.stdout
            child.stdout.close()

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        self.children.append(child)
        assert child.stdout
        assert child.stdout.readline() == "ready\n", f"{argv[:6]} did not start"
        return child

    def argv(self, *words: str | Path, netns: str = "") -> list[str]:
        inside = ["ip", "netns", "exec", netns] if netns else []
        return ["nsenter", f"--target={self.keeper.pid}", "--net", "--mount", f"--wd={ROOT}", *inside, *map(str, words)]

    def run(self, *words: str | Path, netns: str = "", status: int | None = 0, stdin: str = "",
            **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside; fail when the exit status is another than `status` (None: whatever)."""
        done = subprocess.run(self.argv(*words, netns=netns), capture_output=True, text=True, timeout=120, check=False,
                              input=stdin, env={**os.environ, **env})
        assert status is None or done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def vmtool(self, *words: str | Path, status: int | None = 0) -> Result:
        done = self.run(VMTOOL, *words, status=status)
        return Result(done.returncode, done.stdout, done.stderr)

    def signalled(self, number: int, event: str, delay: float, *words: str) -> int:
        """Run vmtool and signal it `delay` seconds after `event` appeared in alpha's journal; its exit status.

        Where that finds vmtool is not decided, nor whether it has ended.
        """
        journal = Path(f"/proc/{self.keeper.pid}/root/var/lib/vmtool/networks/alpha/journal.jsonl")
        journal.unlink(missing_ok=True)
        with subprocess.Popen(self.argv(VMTOOL, *words), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
            while child.poll() is None and not (journal.exists() and event in journal.read_text()):
                time.sleep(0.002)
            time.sleep(delay)
            child.send_signal(number)
            return child.wait(60)

    def signals_itself(self, name: str, moment: str, record: str, *words: str) -> int:
        """Run vmtool, which sends itself a signal before or after a record (see `killed.py`); its exit status."""
        done = self.run(sys.executable, "-m", "tests.integration.killed", name, moment, record, *words,
                        status=None)
        assert done.returncode in (0, 130, -signal.SIGKILL), done.stderr
        return done.returncode

    def killed(self, record: str, *words: str) -> bool:
        """Run vmtool and kill it after a record; False when it came to its end without such a record."""
        return self.signals_itself("SIGKILL", "after", record, *words) == -signal.SIGKILL

    def recorded(self, *words: str) -> list[str]:
        """Run vmtool to its end; the lines of its journal's records."""
        self.run("rm", "-f", "/run/records")
        self.run(sys.executable, "-m", "tests.integration.killed", "record", "/run/records", *words)
        return self.run("cat", "/run/records").stdout.splitlines(keepends=True)

    def serve(self, port: int, text: str, *, netns: str = "", address: str = "0.0.0.0") -> None:
        """A server that says `text` and its caller's address."""
        self._start(self.argv(sys.executable, "-c", SERVER, address, str(port), text, netns=netns))

    def ask(self, address: str, port: int, *, netns: str = "", timeout: float = 60.0) -> str:
        """What a server says; empty when it cannot be reached within `timeout` seconds."""
        return self.run(sys.executable, "-c", CLIENT, address, str(port), str(timeout), netns=netns).stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words).stdout or "[]")

    def footprint(self) -> dict[str, Any]:
        """All that a network could leave behind; rules in their order, since it matters."""
        rules = {table: self.run("iptables", "-w", "-t", table, "-S").stdout.splitlines()
                 for table in ("nat", "filter", "mangle", "raw")}
        # A bridge is deleted at once, the pair of a deleted namespace a moment later.
        self.settle()
        return {
            "rules": {table: sorted(line for line in lines if line[:2] != "-A") + [
                line for line in lines if line[:2] == "-A"] for table, lines in rules.items()},
            "links": sorted((item["ifname"], item.get("master", "")) for item in self.json("ip", "-j", "link")),
            "addresses": sorted(f"{link['ifname']} {item['local']}" for link in self.json("ip", "-j", "-4", "addr")
                                for item in link.get("addr_info", ())),
            "routes": sorted(self.run("ip", "-4", "route", "show", "table", "all").stdout.splitlines()),
            "netns": sorted(self.run("ls", "/run/netns").stdout.split()),
            "files": sorted(path for path in self.run("find", "/var/lib/cni", "/var/lib/vmtool/networks", "/etc/cni",
                                                      "-type", "f", status=None).stdout.split()
                            if not path.endswith(MEMORY)),
        }

    def settle(self) -> None:
        end = time.monotonic() + 60
        while "veth" in self.run("ip", "-br", "link", "show", "nomaster").stdout and time.monotonic() < end:
            time.sleep(0.02)

    def plugin(self, command: str, plugin: str, config: dict[str, Any], container: str, netns: str) -> Any:
        """Call a CNI plugin as another tool would."""
        done = self.run("env", f"CNI_COMMAND={command}", f"CNI_CONTAINERID={container}", "CNI_IFNAME=eth0",
                        f"CNI_NETNS=/var/run/netns/{netns}", f"CNI_PATH={PLUGINS}", f"{PLUGINS}/{plugin}",
                        stdin=json.dumps(config))
        return json.loads(done.stdout or "null")

    def write(self, path: str, text: str) -> None:
        self.run("mkdir", "-p", str(Path(path).parent))
        self.run("tee", path, stdin=text)
