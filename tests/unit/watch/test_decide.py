"""What watch does about an instance: tables of what is seen and remembered, and days of it with a clock that only the
test moves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest

from vmtool.serving.restarts import STEADY_SECONDS, RestartPolicy
from vmtool.watch.decide import decide
from vmtool.watch.loop import IDLE, Watch
from vmtool.watch.model import AGAIN, USUAL_PACE, Act, Memory, Seen

RUNS = Seen("running", "1 100", canary=True)
DAY = 86400.0


def kinds(acts: tuple[Act, ...]) -> list[str]:
    return [act.event or act.what for act in acts]


def settled(seen: Seen = RUNS, now: float = 0.0) -> Memory:
    """The memory of an instance that has been seen to run."""
    return decide(now, seen, Memory())[0]


def test_a_first_look_at_what_runs_does_nothing() -> None:
    memory, acts = decide(0.0, RUNS, Memory())
    assert acts == ()
    assert memory.promised


def test_what_died_is_brought_back_after_its_wait() -> None:
    memory, acts = decide(10.0, Seen("stopped"), settled())
    assert kinds(acts) == ["died"]
    assert decide(10.9, Seen("stopped"), memory)[1] == ()
    memory, acts = decide(11.0, Seen("stopped"), memory)
    assert kinds(acts) == ["bring-back"]
    memory, acts = decide(30.0, replace(RUNS, run="2 200"), memory)
    assert kinds(acts) == ["brought-back"]


def test_after_a_boot_what_was_launched_is_brought_back_without_a_memory() -> None:
    memory, acts = decide(0.0, Seen("stopped"), Memory())
    assert acts == ()
    assert kinds(decide(1.0, Seen("stopped"), memory)[1]) == ["bring-back"]


def test_what_ended_without_a_failure_is_left_alone_also_by_the_next_watch() -> None:
    """`on-failure`, and its server ended with 0; a person's start makes the promise again."""
    ended = Seen("stopped", policy=RestartPolicy("on-failure"), finished=True)
    memory, acts = decide(10.0, ended, settled())
    assert kinds(acts) == ["finished"]
    for again in (memory, Memory(), Memory(promised=True)):
        for now in (20.0, 1e3, 1e6):
            again, acts = decide(now, ended, again)
            assert acts == ()
        assert not again.promised
    assert decide(2e6, replace(RUNS, run="2 1"), memory)[0].promised


@pytest.mark.parametrize("state", ["stopped", "failed", "interrupted", "kept", "running"])
def test_what_a_person_stopped_is_left_alone(state: str) -> None:
    memory = Memory(promised=True, tries=3, run="1 100", next_try=0.0)
    for now in (0.0, 1e3, 1e6):
        memory, acts = decide(now, Seen(state, withdrawn=True), memory)
        assert acts == ()
    assert not memory.promised


def test_a_certificate_is_looked_after_each_six_hours_for_a_year_and_through_restarts() -> None:
    memory, renewed = Memory(), []
    for hour in range(0, 365 * 24):
        now, down = hour * 3600.0, hour % 1000 == 999
        seen = Seen("stopped") if down else replace(RUNS, run=f"{hour // 1000} 1", tls=True)
        memory, acts = decide(now, seen, memory)
        renewed += [hour for act in acts if act.what == "renew"]
    assert renewed[:3] == [0, 6, 12]
    assert max(later - earlier for earlier, later in itertools.pairwise(renewed)) <= 7
    assert len(renewed) >= 1450
    memory = settled(replace(RUNS, tls=True))
    assert all(act.what != "renew" for act in decide(1e6, replace(RUNS, tls=False), memory)[1])


def test_an_upgrade_is_left_alone_and_one_that_was_killed_is_recovered_now_and_then() -> None:
    memory = settled()
    for now in (40.0, 400.0):
        memory, acts = decide(now, replace(RUNS, state="upgrading"), memory)
        assert acts == ()
    half, did = replace(RUNS, state="half-upgraded"), []
    for now in range(400, 600, 10):
        memory, acts = decide(float(now), half, memory)
        did += [(now, act.what, act.event) for act in acts]
    assert did == [(now, "recover", "upgrade-interrupted") for now in (400, 460, 520, 580)]
    memory, acts = decide(600.0, RUNS, memory)
    assert (memory.next_try, [act.what for act in acts], memory.promised) == (None, ["ask-health", "ask-canary"], True)
    assert kinds(decide(610.0, Seen("stopped"), memory)[1]) == ["died"], "it is kept as before"


def test_a_stop_ends_a_start_of_watchs_own_and_no_persons() -> None:
    memory = Memory(promised=True)
    assert [act.what for act in decide(0.0, Seen("starting", withdrawn=True, ours=True), memory)[1]] == ["abort"]
    assert decide(0.0, Seen("starting", withdrawn=True), memory)[1] == ()


@pytest.mark.parametrize("state", ["failed", "interrupted", "kept"])
def test_what_a_persons_launch_left_is_that_persons(state: str) -> None:
    """Nothing was promised yet, or the person took it over from watch."""
    memory = Memory()
    for now in (0.0, 10.0, 1e5):
        memory, acts = decide(now, Seen(state), memory)
        assert acts == ()
    taken, _ = decide(0.0, Seen("starting"), Memory(promised=True, tries=2))
    assert decide(100.0, Seen(state), taken)[1] == ()


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_what_watchs_own_start_left_is_tried_again(state: str) -> None:
    memory = Memory(promised=True, tries=1)
    memory, _ = decide(0.0, Seen("starting", ours=True), memory)
    memory, acts = decide(5.0, Seen(state), memory)
    assert acts == ()
    assert kinds(decide(7.0, Seen(state), memory)[1]) == ["bring-back"], "two seconds after it was seen to fail"


def test_without_room_nothing_is_started_and_nothing_counted() -> None:
    memory, _ = decide(0.0, Seen("stopped"), Memory())
    again, acts = decide(50.0, Seen("stopped"), memory, free=False)
    assert (again, acts) == (memory, ())


def test_policy_no_is_watched_and_never_started() -> None:
    seen = replace(RUNS, policy=RestartPolicy("no"))
    memory = settled(seen)
    memory, acts = decide(1.0, replace(seen, state="stopped", run=""), memory)
    assert kinds(acts) == ["died"]
    for now in (2.0, 1e4, 1e6):
        memory, acts = decide(now, replace(seen, state="stopped", run=""), memory)
        assert acts == ()


def test_a_crash_loop_is_given_up_until_a_person_starts_it() -> None:
    policy = RestartPolicy(limit=3)
    down, memory, tries, now = Seen("failed", policy=policy), Memory(promised=True), [], 0.0
    while now < DAY:
        memory, acts = decide(now, down, memory)
        tries += [(now, act.event) for act in acts]
        now += 0.5
    assert tries == [(1.0, "bring-back"), (3.5, "bring-back"), (8.0, "bring-back"), (8.5, "given-up")]
    memory, _ = decide(now, replace(RUNS, policy=policy), memory)
    assert (memory.tries, memory.given_up) == (0, False), "a person has started it"


def test_a_steady_time_begins_a_new_row() -> None:
    memory = replace(settled(), tries=2)
    assert decide(STEADY_SECONDS - 1, RUNS, memory)[0].tries == 2
    assert decide(STEADY_SECONDS, RUNS, memory)[0].tries == 0


def test_questions_are_asked_when_they_are_due() -> None:
    strict = replace(RUNS, strict=True)
    memory = settled(strict)
    assert decide(USUAL_PACE.health - 1, strict, memory)[1] == ()
    assert kinds(decide(USUAL_PACE.health, strict, memory)[1]) == ["ask-health"]
    assert kinds(decide(USUAL_PACE.claims, strict, memory)[1]) == ["ask-health", "ask-canary", "ask-claims"]
    assert kinds(decide(USUAL_PACE.claims, RUNS, memory)[1]) == ["ask-health", "ask-canary"], "no claims"
    assert kinds(decide(USUAL_PACE.claims, replace(RUNS, canary=False), memory)[1]) == ["ask-health"]


def test_silent_garbage_is_a_failure_the_second_time() -> None:
    memory, acts = decide(400.0, replace(RUNS, answer="bad", why="it answered 'x'"), settled())
    assert kinds(acts) == ["canary-wrong", "ask-health"]
    memory, acts = decide(400.0 + AGAIN, replace(RUNS, answer="bad", why="it answered 'x'"), memory)
    assert kinds(acts) == ["canary-wrong", "restart"]
    assert "it answered 'x'" in acts[-1].why
    memory, acts = decide(415.0, Seen("stopped"), memory)
    assert acts == (), "it did not die: it was ended"
    assert kinds(decide(416.0, Seen("stopped"), memory)[1]) == ["bring-back"]


@pytest.mark.parametrize(("change", "last"), [({"strict": True}, "end"), ({"policy": RestartPolicy("no")}, "note")])
def test_garbage_of_a_strict_instance_ends_it_and_without_a_policy_it_is_written_down(
        change: dict[str, object], last: str) -> None:
    seen = replace(RUNS, answer="bad", **change)  # type: ignore[arg-type]
    memory, _ = decide(0.0, replace(seen, answer=""), Memory())
    memory, _ = decide(1.0, seen, memory)
    memory, acts = decide(11.0, seen, memory)
    assert acts[-1].what == last


def test_a_right_answer_in_between_forgives() -> None:
    memory, _ = decide(1.0, replace(RUNS, answer="bad"), settled())
    memory, acts = decide(11.0, replace(RUNS, answer="good"), memory)
    assert kinds(acts) == ["canary-right"]
    memory, acts = decide(21.0, replace(RUNS, answer="bad"), memory)
    assert kinds(acts) == ["canary-wrong"]


def test_no_answer_is_a_failure_only_when_it_lasts() -> None:
    """A server with a long queue answers late, and must not be ended for it."""
    memory, acts = decide(1.0, replace(RUNS, answer="unanswered", why="busy"), settled())
    assert kinds(acts) == ["canary-unanswered"]
    memory, acts = decide(500.0, replace(RUNS, answer="unanswered", why="busy"), memory)
    assert "restart" not in kinds(acts)
    memory, acts = decide(601.0, replace(RUNS, answer="unanswered", why="busy"), memory)
    assert kinds(acts)[-1] == "restart"


def test_no_health_is_a_failure_only_when_it_lasts() -> None:
    bad = replace(RUNS, health="bad", why="restarting")
    memory, acts = decide(1.0, bad, settled())
    assert kinds(acts) == ["unhealthy"]
    memory, acts = decide(600.0, bad, memory)
    assert acts == (), "nor is the canary asked meanwhile"
    assert kinds(decide(600.5, replace(RUNS, health="good"), memory)[1])[0] == "healthy"
    assert kinds(decide(601.0, bad, memory)[1]) == ["restart"]


def test_a_lost_gpu_ends_a_strict_instance_and_is_an_event_of_others() -> None:
    lost = replace(RUNS, lost=("0000:17:00.0 left the bus",))
    assert kinds(decide(1.0, lost, settled())[1]) == ["gpu-lost"]
    memory, acts = decide(1.0, replace(lost, strict=True), settled())
    assert [act.what for act in acts] == ["note", "end"]
    assert not memory.promised


def test_what_cannot_be_proven_twice_ends_a_strict_instance() -> None:
    strict = replace(RUNS, strict=True, claims="bad", why="not proven any more: image.digest")
    memory, acts = decide(1.0, strict, settled())
    assert kinds(acts) == ["unproven"]
    memory, acts = decide(11.0, strict, memory)
    assert [act.what for act in acts] == ["note", "end"]
    assert "image.digest" in acts[-1].why


def test_evidence_that_does_not_come_ends_a_strict_instance_only_when_it_lasts() -> None:
    """Any peer can keep an endpoint busy for a while."""
    silent = replace(RUNS, strict=True, claims="unanswered", why="status 429")
    memory, acts = decide(1.0, silent, settled())
    assert kinds(acts) == ["claims-unanswered"]
    memory, acts = decide(11.0, silent, memory)
    assert acts == ()
    again, acts = decide(12.0, replace(silent, claims="good"), memory)
    assert (kinds(acts)[0], again.unasked) == ("proven-again", None)
    assert memory.due_claims == 11.0 + AGAIN
    assert [act.what for act in decide(601.0, silent, memory)[1]] == ["end"]


@dataclass
class Simulated:
    """A host with instances that die when the test says so; a command takes its time, and vmtool may be killed.

    Attributes:
        seconds: that a start takes.
        fails: whether the starts fail now.
        disk: what was written down. killed: at which effect watch dies, counted down.
    """

    seconds: float = 30.0
    fails: bool = False
    now: float = 0.0
    states: dict[str, Seen] = field(default_factory=dict)
    disk: dict[str, Memory] = field(default_factory=dict)
    under_way: dict[str, tuple[float, str]] = field(default_factory=dict)
    history: list[tuple[float, str, str]] = field(default_factory=list)
    killed: int = -1
    deaths: int = 0
    runs: int = 0
    garbage: bool = False
    replies: dict[str, Seen] = field(default_factory=dict)

    def add(self, name: str, seen: Seen = RUNS) -> None:
        self.runs += 1
        self.states[name] = replace(seen, run=str(self.runs))

    def look(self) -> dict[str, Seen]:
        for name, (end, what) in tuple(self.under_way.items()):
            if self.now >= end:
                del self.under_way[name]
                self._end(name, what)
        seen = {name: replace(one, state="starting", run="", ours=True) if name in self.under_way else one
                for name, one in self.states.items()}
        for name, reply in self.replies.items():
            if seen[name].state == "running":
                seen[name] = replace(seen[name], health=reply.health, answer=reply.answer, claims=reply.claims)
        self.replies = {}
        return seen

    def _end(self, name: str, what: str) -> None:
        if what == "start" and not self.fails:
            self.add(name, replace(self.states[name], state="running"))
        elif what == "start":
            self.states[name] = replace(self.states[name], state="failed")
        else:
            self.states[name] = replace(self.states[name], state="stopped", run="", withdrawn=what == "end")

    def load(self, name: str) -> Memory:
        return self.disk.get(name, Memory())

    def save(self, name: str, memory: Memory) -> None:
        self._effect()
        self.disk[name] = Memory(memory.promised, memory.tries, memory.given_up)

    def do(self, name: str, act: Act) -> None:
        if act.what.startswith("ask"):
            answer = {"ask-health": Seen("", health="good"), "ask-claims": Seen("", claims="good"),
                      "ask-canary": Seen("", answer="bad" if self.garbage else "good")}[act.what]
            before = self.replies.get(name, Seen(""))
            self.replies[name] = Seen("", health=answer.health or before.health, answer=answer.answer or before.answer,
                                      claims=answer.claims or before.claims)
            return
        self._effect()
        self.history.append((self.now, name, act.event or act.what))
        if act.what in ("start", "restart", "end"):
            assert name not in self.under_way, "never two commands on one instance"
            self.under_way[name] = self.now + self.seconds, act.what

    def free(self) -> bool:
        return sum(what == "start" for _, what in self.under_way.values()) < 2

    def dies(self, name: str) -> None:
        self.states[name] = replace(self.states[name], state="stopped", run="")

    def running(self) -> list[str]:
        return sorted(name for name, one in self.states.items() if one.state == "running")

    def events(self, name: str) -> list[str]:
        return [event for _, one, event in self.history if one == name]

    def _effect(self) -> None:
        if self.killed == 0:
            self.deaths += 1
            self.killed = -1
            raise Killed
        self.killed -= self.killed > 0


class Killed(BaseException):
    """SIGKILL."""


def go_on(host: Simulated, watch: Watch, until: float, step: float = 10.0) -> Watch:
    """Let time pass; a watch that is killed is started again, with what is on the disk."""
    while host.now < until:
        try:
            watch.turn(host.now)
        except Killed:
            watch = Watch(host)
            continue
        host.now += step
    return watch


@pytest.mark.thorough
def test_a_week_of_eleven_instances() -> None:
    """Each dies once a day at its own hour; the host boots on the fourth day; a person stops i07 on the third. From the
    sixth day on i05 cannot be started for ten minutes each time, and i08 for an hour."""
    host = Simulated()
    names = [f"i{number:02}" for number in range(11)]
    for name in names:
        host.add(name)
    watch, broken = Watch(host), {"i05": 600.0, "i08": 3600.0}
    for day in range(7):
        for number, name in enumerate(names):
            watch = go_on(host, watch, day * DAY + number * 4000.0)
            if day == 3 and number == 10:
                for each in names:  # the host boots: watch begins again with what is on the disk
                    host.dies(each)
                watch = Watch(host)
            elif host.states[name].state == "running":
                host.dies(name)
            if name in broken and day >= 5:
                host.fails = True
                watch = go_on(host, watch, host.now + broken[name], step=1.0)
                host.fails = False
            if name == "i07" and day == 2:
                host.states[name] = replace(host.states[name], state="stopped", run="", withdrawn=True)
    watch = go_on(host, watch, 7 * DAY)
    assert host.running() == [name for name in names if name not in ("i07", "i08")]
    assert host.states["i07"].withdrawn
    counts = {name: host.events(name).count("brought-back") for name in names}
    assert counts["i07"] == 2, "until it was stopped, and never after"
    assert counts["i08"] == 6, "five days, and the boot"
    assert host.events("i08")[-1] == "given-up"
    assert host.events("i08").count("bring-back") == 6 + 10
    assert {counts[name] for name in names if name not in ("i07", "i08", "i10")} == {8}
    assert counts["i10"] == 7, "the boot came at its hour"
    assert not [name for name in names if name != "i08" and "given-up" in host.events(name)]


def test_garbage_for_two_days_never_ends_the_tries_and_never_hurries_them() -> None:
    """It starts well each time, and is found out again: some six minutes each, and an event for each."""
    host = Simulated()
    host.add("a")
    host.garbage = True
    go_on(host, Watch(host), 2 * DAY)
    times = [at for at, _, event in host.history if event == "restart"]
    assert len(times) > 100
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > USUAL_PACE.canary


@pytest.mark.parametrize("fails", [False, True])
def test_a_kill_at_each_point_loses_nothing(fails: bool) -> None:
    """Whatever the effect at which watch dies, the instance runs in the end, or is given up after as many tries as
    were allowed, and never has two commands at a time."""
    points = 0
    for point in range(40):
        host = Simulated(fails=fails)
        host.add("a", replace(RUNS, policy=RestartPolicy(limit=4)))
        host.add("b")
        watch = go_on(host, Watch(host), 20.0)
        host.dies("a")
        host.killed = point
        watch = go_on(host, watch, 3000.0)
        points += host.deaths
        starts = host.events("a").count("bring-back")
        if fails:
            assert host.states["a"].state == "failed"
            assert host.disk["a"] == Memory(True, 4, True)
            assert starts in (3, 4), "a kill between the memory and the act costs one try"
        else:
            assert host.running() == ["a", "b"]
            assert starts == 1
        assert host.states["b"].run == "2", "the other one was left alone"
    assert points > (5 if fails else 2)


def test_what_a_person_is_removing_is_not_written_to() -> None:
    """`rm` ends the process, which watch notices, and then removes the files, among which none may appear."""
    host = Simulated()
    host.add("a")
    watch = Watch(host)
    watch.turn(0.0)
    host.states["a"] = replace(RUNS, state="starting", run="")  # its lock is held, by somebody else
    watch.turn(1.0)
    assert (host.disk, host.history) == ({}, [])
    del host.states["a"]
    watch.turn(2.0)
    assert (host.disk, host.history, watch.memories) == ({}, [], {})


def test_a_start_that_is_due_is_not_left_waiting_for_the_next_usual_look() -> None:
    host = Simulated()
    host.add("a")
    watch = Watch(host)
    watch.turn(100.0)
    assert watch.rest(100.0) == IDLE
    host.dies("a")
    watch.turn(101.0)
    assert watch.rest(101.0) == 1.0
    assert watch.rest(105.0) == 0.0
