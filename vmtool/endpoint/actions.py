"""Actions that ask a served model."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.endpoint import client
from vmtool.endpoint.answers import Answer
from vmtool.endpoint.client import Server
from vmtool.endpoint.vllm_report import MARK
from vmtool.errors import ProgramFailed, VerificationFailed, VmtoolError
from vmtool.frozen import dataclass
from vmtool.plan.action import Action
from vmtool.plan.programs import private_file
from vmtool.serving.events import read_events
from vmtool.serving.kbs.errors import NO_KEY

if TYPE_CHECKING:
    from vmtool.machine import Host

# Events of an entrypoint that ends by itself.
REFUSED = {"model-refused": "the encrypted model is refused", "not-hardened": "the container is not hardened"}
# Seconds until what a container said last is in its log: whoever writes that has read it by then, also on a host with
# much to do.
WRITTEN = 1.0
# The line that is looked for comes early.
LOG = 4 << 20


@dataclass(frozen=True)
class AwaitHealth(Action):
    """Wait until the server answers 200 on /health; fail at once when the process in `pidfile` ends.

    `log` is what the workload writes; its last lines explain a failure.
    """

    server: Server
    pidfile: Path
    log: Path
    deadline: float

    def shell(self) -> str:
        wait = f"until {self.server.curl} -sf {self.server.shell()}/health; do sleep 0.2; done"
        return f"timeout {self.deadline:g} sh -c {shlex.quote(wait)}"

    def do(self, host: Host) -> None:
        address, started = client.address_of(host, self.server), host.now()
        while host.request("GET", f"{address}/health", deadline=5.0, trust=address.trust)[0] != 200:
            waited = host.now() - started
            if not host.living(self.pidfile):
                raise ended_early(host, self.log)
            if waited > self.deadline:
                raise ProgramFailed(f"not healthy after {self.deadline:.0f} s", details=host.tail(self.log),
                                    hint="give it more time with --timeout SECONDS", log=str(self.log))
            host.note(f"{waited:.0f} s of at most {self.deadline:.0f} s")
            host.sleep(client.POLL)


def ended_early(host: Host, log: Path) -> VmtoolError:
    """Why a container ended before it was healthy: what its entrypoint refused to start with, or its last lines."""
    host.sleep(WRITTEN)
    last = host.tail(log)
    refused = [event for event in read_events("\n".join(last)) if event["event"] in REFUSED]
    if refused:
        what, why = REFUSED[refused[-1]["event"]], str(refused[-1].get("why"))[:500]
        # Of a broker's refusal the guest learns the type alone.
        hint = ("docs/key-broker.md says what each refusal means, and the broker's audit file has the reason"
                if why.startswith(NO_KEY) else "docs/encrypted-models.md says what is checked")
        return VerificationFailed(f"{what}: {why}", details=last, hint=hint)
    return ProgramFailed("the container ended before it was healthy", details=last, log=str(log))


@dataclass(frozen=True)
class Drain(Action):
    """Let a front take leave of its clients: each gets its answer, and asks the next time on a new connection, which
    leads elsewhere. Wait until all have gone, at most `deadline` seconds; a front that has ended has none.

    Args:
        server: the front's port for the host; key: file with the manager's key.
        close: there is no other front: what is new gets 503, and what is being answered is waited for.
    """

    server: Server
    key: Path
    pidfile: Path
    deadline: float
    close: bool = False

    def shell(self) -> str:
        key = shlex.quote(str(self.key))
        path, counted = ("close", ".requests") if self.close else ("drain", ".connections")
        left = (f"sed -n '1s/^/Authorization: Bearer /p' {key} | {self.server.curl} -s -m 15 -X PUT -H @- "
                f"{self.server.shell()}/{path} | jq -e {counted}")
        wait = f'while [ "0$({left})" -gt 0 ]; do sleep 0.2; done'
        return f"timeout {self.deadline:g} sh -c {shlex.quote(wait)} || :"

    def do(self, host: Host) -> None:
        self.wait(host)

    def wait(self, host: Host) -> int | None:
        """Do it; how many were left when time was over, None of a front that does not answer."""
        end = host.now() + self.deadline
        while host.living(self.pidfile):
            left = client.drain(host, self.server, self.key, close=self.close)
            if not left or host.now() >= end:
                return left
            what = "answers" if self.close else "connections"
            host.note(f"{left} {what}, for at most {end - host.now():.0f} s")
            host.sleep(client.POLL)
        return 0


@dataclass(frozen=True)
class ReadServer(Action):
    """Keep what a healthy vLLM says of its own arguments, for the claims: a line of its `log`, and /v1/models.

    Args:
        key: file with the API key.
        evidence: the file that it is written to.
    """

    server: Server
    key: Path
    log: Path
    evidence: Path
    deadline: float = 30.0

    def shell(self) -> str:
        key, log, evidence = (shlex.quote(str(path)) for path in (self.key, self.log, self.evidence))
        line = f"$(head -c {LOG} {log} | grep -a -o '{MARK}.*' | head -n 1)"
        return (f"{private_file(self.evidence)} sed -n '1s/^/Authorization: Bearer /p' {key} | "
                f"{self.server.curl} -sf -m {self.deadline:g} -H @- {self.server.shell()}/v1/models | "
                f'jq -s --arg arguments "{line}" \'{{arguments: $arguments, models: .[0]}}\' > {evidence}')

    def do(self, host: Host) -> None:
        found = client.models(host, client.address_of(host, self.server), self.key, deadline=self.deadline)
        try:
            text = host.read(self.log)[:LOG].decode(errors="replace")
        except OSError:
            text = ""
        line = next((line for line in text.split("\n") if MARK in line), "")
        said = {"arguments": MARK + line.partition(MARK)[2] if line else "", "models": found}
        host.write(self.evidence, json.dumps(said, indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class AskCanary(Action):
    """Ask a question with a known answer at temperature 0 and compare; the exchange goes to the file `evidence`.

    Args:
        key: file with the API key.
        match: "exact" (but for blanks around it) or "contains".
    """

    server: Server
    key: Path
    model: str
    prompt: str
    expect: str
    match: str
    evidence: Path
    deadline: float

    def shell(self) -> str:
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": self.prompt}]}
        right = ("($answer | trim) == ($expect | trim)" if self.match == "exact" else "($answer | contains($expect))")
        program = ('def trim: sub("^\\\\s+"; "") | sub("\\\\s+$"; ""); '
                   '(.choices[0].message.content // "") as $answer | '
                   f"{{prompt: $prompt, expect: $expect, match: $match, answer: $answer, right: ({right})}}")
        given = " ".join(f"--arg {name} {shlex.quote(value)}" for name, value in (
            ("prompt", self.prompt), ("expect", self.expect), ("match", self.match)))
        key, evidence = shlex.quote(str(self.key)), shlex.quote(str(self.evidence))
        return (f"{private_file(self.evidence)} sed -n '1s/^/Authorization: Bearer /p' {key} | "
                f"{self.server.curl} -sf -m {self.deadline:g} -H @- -H 'Content-Type: application/json' "
                f"-d {shlex.quote(json.dumps(body))} {self.server.shell()}/v1/chat/completions | "
                f"jq {given} {shlex.quote(program)} > {evidence} && "
                f"jq -e .right {evidence}")

    def do(self, host: Host) -> None:
        answer, right = self.ask(host)
        text = answer.text
        evidence = {"prompt": self.prompt, "expect": self.expect, "match": self.match, "answer": text, "right": right}
        host.write(self.evidence, json.dumps(evidence, indent=2, ensure_ascii=False) + "\n")
        if not right and answer.problem:
            raise VmtoolError(f"the canary's question was not answered: {answer.problem}", details=answer.details,
                              hint="ask one that this model answers in a few words (spec.canary), or give it room for "
                                   "more tokens (--max-model-len in spec.vllm.args)")
        if not right:
            raise VerificationFailed("the model's answer to the canary's question is wrong",
                                     details=(f"asked:    {self.prompt!r}", f"expected: {self.expect!r}",
                                              f"answered: {text[:500]!r}"),
                                     hint="the server is healthy but its output cannot be trusted: compare on another "
                                          "device, or correct spec.canary when the expectation is wrong")

    def ask(self, host: Host) -> tuple[Answer, bool]:
        """The answer, and whether it is right.

        Raises:
            VmtoolError: there is none.
        """
        url = client.address_of(host, self.server)
        answer = client.ask(host, url, self.key, self.model, self.prompt, deadline=self.deadline)
        right = answer.text.strip() == self.expect.strip() if self.match == "exact" else self.expect in answer.text
        return answer, right
