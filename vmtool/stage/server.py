"""The server that was started: that it is healthy, and that its answers can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.claims import Claim
from vmtool.endpoint.actions import AskCanary, AwaitHealth, ReadServer
from vmtool.findings import Finding, wrong_input
from vmtool.foreign import parse_json
from vmtool.instance.instance import Instance
from vmtool.machine import Reader
from vmtool.plan import Step
from vmtool.stage.launch import Launch, Stage
from vmtool.stage.timeouts import canary_deadline, start_deadline
from vmtool.stage.vllm_claims import vllm_claims


def health_deadline(launch: Launch) -> float:
    """Seconds until the server must be healthy: what the person or the spec says, or what memory and model justify."""
    body = launch.body
    computed = start_deadline(body.resources.memory, launch.model_size, launch.record.confidential)
    return launch.timeout or body.timeouts.start or computed * launch.launcher.slowdown(launch)


class HealthStage(Stage):
    """Waits for the server, as long as memory and model size justify."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        body = launch.body
        if body.server_arguments and body.model.engine != "vllm":
            yield wrong_input("launch.engine", f"arguments for vLLM, but spec.model.engine is {body.model.engine}",
                              place="spec.vllm.args")

    def steps(self, launch: Launch) -> Iterator[Step]:
        server, paths, body, deadline = launch.server, launch.paths, launch.body, health_deadline(launch)
        yield Step(f"wait until the server is healthy, at most {deadline:.0f} s",
                   (AwaitHealth(server, paths.pidfile, paths.log, deadline),
                    *((ReadServer(server, paths.key, paths.log, paths.server),) if body.model.engine == "vllm"
                      else ())), waits_only=True)

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        yield from vllm_claims(reader, instance)


class CanaryStage(Stage):
    """Asks the spec's question, or the one that the model brings along."""

    outlives_the_process = True

    def steps(self, launch: Launch) -> Iterator[Step]:
        canary, brought = launch.body.canary, launch.model.canary if launch.model else None
        if canary:
            prompt, expect, match = canary.prompt, canary.expect, canary.match
        elif brought:
            (prompt, expect), match = brought, "exact"
        else:
            yield Step("ask the canary", waits_only=True,
                       skip="NOT CHECKED: the spec and the model name no question with a known answer")
            return
        deadline = launch.body.timeouts.canary or (
            canary_deadline(launch.model_size) * launch.launcher.slowdown(launch))
        record, paths = launch.record, launch.paths
        ask = AskCanary(launch.server, paths.key, record.model, prompt, expect, match, paths.canary, deadline)
        yield Step("ask the canary and compare its answer", (ask,), waits_only=True)

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        text = reader.text(str(instance.paths.canary))
        if text is None:
            yield Claim("canary", "not-checked", "no question with a known answer was given (spec.canary)")
            return
        exchange = parse_json(text)
        yield Claim("canary", "proven" if exchange["right"] else "failed",
                    f"at the start it answered {exchange['answer'].strip()[:80]!r}")
