"""What the instances do just now, for `vmtool top`. What cannot be known is None."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from vmtool.endpoint.client import address_of
from vmtool.errors import VmtoolError
from vmtool.facts.cgroup import read_cgroup
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.host import event_log
from vmtool.instance.instance import Instance
from vmtool.machine import Host, Reader

HEALTH_SECONDS = 2.0
# What a front says of itself.
HEALTH = ("ok", "starting", "restarting", "not answering", "stopping")
# Bytes that no machine has.
UNLIMITED = 1 << 62
# Of the guest's log: the end, in which vLLM's newest report is; it makes one each 10 s while it has something to do.
LOG_END = 256 << 10
REPORT_SECONDS = 25.0
REPORT = re.compile(
    r"(\d\d-\d\d \d\d:\d\d:\d\d) \[loggers\.py:\d+\] Engine \d+: Avg prompt throughput: ([\d.]+) tokens/s, "
    r"Avg generation throughput: ([\d.]+) tokens/s, Running: (\d+) reqs, Waiting: (\d+) reqs[^\n]{0,200}?"
    r"KV cache usage: ([\d.]+)%")


@dataclass(frozen=True)
class Report:
    """What vLLM says of itself in its log.

    Args:
        prompt, generation: tokens a second. kv_cache: percent.
    """

    prompt: float
    generation: float
    running: int
    waiting: int
    kv_cache: float


@dataclass(frozen=True)
class Load:
    """One instance now.

    Args:
        health: one of `HEALTH`, or "no answer"; None when it does not run.
        restarts: of its server and of itself, since it was launched by a person.
        uptime, cpu: seconds since its start, and of processor time since then.
        memory, memory_limit: bytes.
    """

    name: str
    state: str
    health: str | None = None
    restarts: int = 0
    uptime: float | None = None
    cpu: float | None = None
    memory: int | None = None
    memory_limit: int | None = None
    report: Report | None = None
    devices: tuple[str, ...] = ()


def read_loads(host: Host, instances: Iterable[Instance], now: float) -> list[Load]:
    """All of them; those that do not answer make nobody wait for long.

    Args:
        now: seconds since the epoch.
    """
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda instance: read_load(host, instance, now), instances))


def read_load(host: Host, instance: Instance, now: float) -> Load:
    """One of them."""
    restarts = count_restarts(event_log.read(instance.paths.directory))
    devices = instance.record.devices if instance.record else ()
    if instance.pid is None or instance.record is None:
        return Load(instance.name, instance.state, restarts=restarts, devices=devices)
    pid = instance.pid
    usage = read_cgroup(host, pid, "memory", first="memory.usage_in_bytes", second="memory.current")
    limit = read_cgroup(host, pid, "memory", first="memory.limit_in_bytes", second="memory.max")
    return Load(instance.name, instance.state, health=read_health(host, instance), restarts=restarts,
                uptime=_uptime(host, pid), cpu=_cpu(host, pid), memory=_number(usage),
                memory_limit=_limit(limit), report=read_report(host, instance, now), devices=devices)


def read_health(host: Host, instance: Instance) -> str:
    """The word of its /health."""
    try:
        address = address_of(host, instance.known().server)
    except VmtoolError:
        return "no answer"
    status, text = host.request("GET", f"{address}/health", deadline=HEALTH_SECONDS, trust=address.trust)
    try:
        said = parse_json(text).get("status") if status in (200, 503) else None
    except (ValueError, AttributeError):
        said = None
    return said if said in HEALTH else "no answer"


def read_report(reader: Reader, instance: Instance, now: float) -> Report | None:
    """vLLM's newest one; None when it is old, as of a server without requests, or when there is none."""
    path = str(instance.paths.log)
    whole = reader.piece(path, 0, 0)
    end = reader.piece(path, max(0, whole.size - LOG_END), LOG_END) if whole else None
    found = list(REPORT.finditer(end.data.decode(errors="replace"))) if end else []
    if not found or not 0 <= _age(found[-1][1], now) < REPORT_SECONDS:
        return None
    _, prompt, generation, running, waiting, kv_cache = found[-1].groups()
    return Report(float(prompt), float(generation), int(running), int(waiting), float(kv_cache))


def count_restarts(events: Iterable[event_log.Recorded]) -> int:
    """How often it came back since a person launched it."""
    count = 0
    for event in events:
        if event["event"] == "starting" and not str(event.get("by", "")).startswith("vmtool watch"):
            count = 0
        count += event["event"] in ("server-restarted", "brought-back")
    return count


def _age(text: str, now: float) -> float:
    """Seconds since the moment of a log line, which is UTC and has no year."""
    year = time.gmtime(now).tm_year
    try:
        return min((now - _seconds(f"{each}-{text}") for each in (year, year - 1)), key=abs)
    except ValueError:
        return REPORT_SECONDS


def _seconds(text: str) -> float:
    import calendar

    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


def _uptime(reader: Reader, pid: int) -> float | None:
    fields = (reader.text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    since_boot = (reader.text("/proc/uptime") or "").split()
    if len(fields) < 20 or not since_boot:
        return None
    return max(0.0, float(since_boot[0]) - int(fields[19]) / _TICKS)


_TICKS = 100  # of a second: USER_HZ, the same on all of Linux's architectures that vmtool knows


def _cpu(reader: Reader, pid: int) -> float | None:
    """Seconds of processor time of all its processes."""
    first = read_cgroup(reader, pid, "cpuacct", first="cpuacct.usage", second="cpu.stat")
    if first.isdecimal():
        return int(first) / 1e9
    values = dict(_pairs(first))
    return int(values["usage_usec"]) / 1e6 if "usage_usec" in values else None


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        yield name, value


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _limit(text: str) -> int | None:
    """None for no limit: version 2 says "max", version 1 the most whole pages that a long holds (mm/memcontrol.c)."""
    limit = _number(text)
    return limit if limit is None or limit < UNLIMITED else None
