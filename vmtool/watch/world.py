"""The real world of watch: this host's instances, and the commands that act on them, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from vmtool.foreign import parse_json
from vmtool.host import bounded_log, event_log, files
from vmtool.host.kernel_events import KernelMessages, RemovedDevices
from vmtool.host.local import LocalHost
from vmtool.host.waiting import Job, Waiting
from vmtool.instance.instance import Paths
from vmtool.instance.promise import find_start_by_watch
from vmtool.isolation import python
from vmtool.paths import State
from vmtool.watch.facts import Instances, Watched
from vmtool.watch.gpu_trouble import troubled
from vmtool.watch.model import USUAL_PACE, Act, Memory, Pace, Seen
from vmtool.watch.questions import Questions, Reply

# Starts at a time: each is a process with all of vmtool in it, and a model that loads.
STARTS = 2
BOOT = "/proc/sys/kernel/random/boot_id"
DEVICES = "/sys/bus/pci/devices"
# An act -> the words of the command that does it.
COMMANDS = {"start": ("start", "NAME", "--watch"), "restart": ("stop", "NAME", "--again"),
            "end": ("stop", "NAME", "--unproven"), "recover": ("recover", "--only", "NAME"),
            "renew": ("ca", "renew", "NAME")}


class LocalWorld:
    """See `vmtool.watch.loop.World`."""

    def __init__(self, state: State, pace: Pace = USUAL_PACE) -> None:
        self.state, self.pace, self.host = state, pace, LocalHost()
        self.instances = Instances(state)
        self.now: dict[str, Watched] = {}
        self.jobs: dict[str, tuple[Act, Job]] = {}
        self.messages, self.removed = KernelMessages(), RemovedDevices()
        # Not the messages, of which a firewall can write hundreds a second: they are read at each look.
        self.waiting = Waiting((self.removed.descriptor,))
        self.questions = Questions(state, self.host)
        self.lost: dict[str, str] = {}
        self.boot = (self.host.text(BOOT) or "").strip()

    def wait(self, seconds: float) -> None:
        """Until something happens, or time is over."""
        self.waiting.wait([*(one.instance.pid for one in self.now.values() if one.instance.pid),
                           *(job.pid for _, job in self.jobs.values())], seconds)

    def look(self) -> Mapping[str, Seen]:
        self._end_jobs()
        self.now = {one.instance.name: one for one in self.instances.read()}
        self._bound_logs()
        news = self._lost()
        seen = {name: self._seen(one, news) for name, one in self.now.items()}
        for reply in self.questions.replies():
            if reply.name in seen and reply.run == seen[reply.name].run:
                self._keep_canary(reply)
                seen[reply.name] = with_reply(seen[reply.name], reply)
        return seen

    def load(self, name: str) -> Memory:
        try:
            written = parse_json(self.host.text(str(self._file(name))) or "{}")
            if written.get("boot") == self.boot:
                return Memory(written["promised"] is True, int(written["tries"]), written["given_up"] is True)
            return Memory(promised=written.get("promised") is True)
        except (ValueError, LookupError, TypeError, AttributeError):
            return Memory()

    def save(self, name: str, memory: Memory) -> None:
        host = self.host
        if host.exists(str(self.state.instance(name))):  # it may have been removed since
            files.write(self._file(name), json.dumps({
                "promised": memory.promised, "tries": memory.tries, "given_up": memory.given_up,
                "boot": self.boot}) + "\n")

    def free(self) -> bool:
        return sum(act.what == "start" for act, _ in self.jobs.values()) < STARTS

    def do(self, name: str, act: Act) -> None:
        directory = self.state.instance(name)
        if act.event:
            event_log.record(directory, act.event, "watch", **({"why": act.why} if act.why else {}))
        if act.what in COMMANDS and name not in self.jobs:
            words = [name if word == "NAME" else word for word in COMMANDS[act.what]]
            argv = python("-m", "vmtool", "--state-dir", str(self.state.root), *words)
            with contextlib.suppress(OSError):
                self.jobs[name] = act, Job(argv, directory / "log" / "watch.log")
        elif act.what == "abort":
            self._abort(name)
        elif act.what.startswith("ask-"):
            self.questions.ask(self.now[name], act.what)

    def _abort(self, name: str) -> None:
        """End watch's own start. When that has ended just now, the lock is another command's, which is left alone, and
        its line may for a moment still be that start's."""
        pid = find_start_by_watch(self.state, self.state.instance(name))
        if pid and (name not in self.jobs or self.jobs[name][1].pid == pid):
            self.host.kill(pid, signal.SIGTERM)

    def _seen(self, one: Watched, news: Mapping[str, str]) -> Seen:
        instance, promise = one.instance, one.promise
        job = self.jobs.get(instance.name)
        lost = tuple(news[bdf] for bdf in (instance.record.devices if instance.record else ()) if bdf in news)
        # What a command is at work on is left to it; that a person has stopped it, a start still must hear.
        withdrawn = one.withdrawn and (job is None or job[0].what == "start")
        state = "half-upgraded" if instance.half_upgraded and instance.pid and not instance.busy else (
            instance.state)
        return Seen("starting" if job else state, one.run, withdrawn, one.ours or bool(job), promise.policy,
                    promise.strict, promise.canary is not None, promise.patience, lost=lost, pace=self.pace,
                    tls=bool(instance.record and instance.record.tls), finished=one.finished)

    def _keep_canary(self, reply: Reply) -> None:
        """For `vmtool metrics`: the evidence of the launch stays what it was."""
        host, directory = self.host, self.state.instance(reply.name)
        if reply.what == "ask-canary" and reply.result in ("good", "bad") and host.exists(str(directory)):
            with contextlib.suppress(OSError):  # such as a full disk
                files.write(Paths(directory).watched_canary, json.dumps({"right": reply.result == "good"}) + "\n")

    def _end_jobs(self) -> None:
        for name, (act, job) in tuple(self.jobs.items()):
            if (status := job.result()) is not None:
                del self.jobs[name]
                if status:
                    what = f"{act.event or act.what}-failed"
                    event_log.record(self.state.instance(name), what, "watch", status=status, why=job.last_words())

    def _bound_logs(self) -> None:
        """What is written for as long as something runs would fill the disk in the end; a hostile guest sooner."""
        bounded_log.bound(self.state.containerd / "containerd.log")
        for one in self.now.values():
            paths = one.instance.paths
            for log in (paths.log, paths.console, paths.directory / "log" / "host.log"):
                bounded_log.bound(log, partial(event_log.collect, paths.directory))

    def _lost(self) -> dict[str, str]:
        """Of the devices of running instances, what is lost since the last look, and how that is known."""
        host = self.host
        devices = {bdf for one in self.now.values() if one.instance.record and one.instance.pid
                   for bdf in one.instance.record.devices}
        self.lost = {bdf: how for bdf, how in self.lost.items() if bdf in devices}
        found = {bdf: f"{bdf} left the bus" for bdf in self.removed.new() if bdf in devices}
        found |= {bdf: message[:200] for message in self.messages.new() if (bdf := troubled(message, devices))}
        found |= {bdf: f"{bdf} is not on the bus" for bdf in devices if not host.exists(f"{DEVICES}/{bdf}")}
        news = {bdf: how for bdf, how in found.items() if bdf not in self.lost}
        self.lost |= news
        return news

    def _file(self, name: str) -> Path:
        return Paths(self.state.instance(name)).watch


def with_reply(seen: Seen, reply: Reply) -> Seen:
    """With what a question gave."""
    if reply.what == "ask-health":
        return replace(seen, health=reply.result, why=reply.why)
    if reply.what == "ask-canary":
        return replace(seen, answer=reply.result, why=reply.why)
    return replace(seen, claims=reply.result, why=reply.why)
