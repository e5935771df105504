"""Instances that are nothing but their directories, a process and a little server: what watch sees of real ones."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from vmtool.endpoint.actions import AskCanary, AwaitHealth
from vmtool.endpoint.client import Server
from vmtool.host import processes
from vmtool.instance.instance import InstanceRecord, Paths
from vmtool.paths import State
from vmtool.plan import Plan, Step, to_json
from vmtool.records import record_text

JOURNAL = Path(__file__).parents[1] / "data" / "journals" / "launch-runc.jsonl"


class Answers(BaseHTTPRequestHandler):
    """/health, and one answer to every question."""

    protocol_version = "HTTP/1.1"
    answer, status, asked = "So.", 200, 0

    def do_GET(self) -> None:
        self._send({"status": "ok" if self.status == 200 else "restarting"}, self.status)

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        self._send({"choices": [{"index": 0, "finish_reason": "stop",
                                 "message": {"role": "assistant", "content": self.answer}}]}, 200)

    def log_message(self, *words: object) -> None:
        pass

    def _send(self, document: object, status: int) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@dataclass
class Fleet:
    """Instances, and what serves for all of them."""

    state: State
    served: type[Answers]
    port: int
    processes: dict[str, subprocess.Popen[bytes]]

    def add(self, name: str, **body: object) -> Path:
        """One that runs, launched by this vmtool."""
        directory = write_instance(self.state, name, self.port, **body)
        child = self.processes[name] = subprocess.Popen(["sleep", "3600"])
        (directory / "container.pid").write_text(f"{child.pid} {processes.start_time(child.pid)}\n")
        return directory


def write_instance(state: State, name: str, port: int, **body: object) -> Path:
    """The directory of one that was launched by this vmtool; its process is yet to be named."""
    paths = Paths(state.instance(name))
    (paths.directory / "log").mkdir(parents=True)
    paths.key.parent.mkdir()
    paths.canary.parent.mkdir()
    paths.key.write_text("k" * 32 + "\n")
    paths.log.write_text("")
    paths.canary.write_text(json.dumps({"prompt": "Why?", "expect": "So.", "match": "exact", "answer": "So.",
                                        "right": True}))
    server = Server("127.0.0.1", port, paths.network)
    record = InstanceRecord(name, "d", "runc", "none", "i", "m", "/nowhere.sock", True, "127.0.0.1", port,
                            "/n", str(paths.network / "result.json"), 1 << 30)
    paths.record.write_text(record_text(record))
    paths.spec.write_text(json.dumps({
        "apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": name}, "spec": {
            "runtime": {"handler": "runc"}, "allow_unconfidential": True, "image": "vmtool/none",
            "model": {"name": "m", "path": "/nowhere"},
            "restart": {"policy": "on-failure", "backoff": 1.0, "limit": 10}, **body}}))
    plan = Plan(f"instance {name}", paths.directory, (Step("wait", (
        AwaitHealth(server, paths.pidfile, paths.log, 100.0),
        AskCanary(server, paths.key, "m", "Why?", "So.", "exact", paths.canary, 10.0))),))
    (paths.directory / "plan.json").write_text(json.dumps(to_json(plan)))
    shutil.copy(JOURNAL, paths.directory / "journal.jsonl")
    return paths.directory


@contextlib.contextmanager
def fleet(directory: Path) -> Iterator[Fleet]:
    """None at first; all their processes end with the block."""
    served = type("Served", (Answers,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), served)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made = Fleet(State(directory), served, server.server_port, {})
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        for child in made.processes.values():
            child.kill()
            child.wait()
