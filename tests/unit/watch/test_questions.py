"""The questions of watch: what each kind of answer is taken for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from tests.unit.launch.cases import RECORD, instance
from vmtool.endpoint.actions import AskCanary
from vmtool.host import daemons
from vmtool.machine import Output
from vmtool.paths import State
from vmtool.watch.facts import Promise, Watched
from vmtool.watch.questions import Questions
from vmtool.watch.workers import claims

DATA = Path(__file__).parents[2] / "data"
CANARY = AskCanary(RECORD.server, Path("/k"), "m", "Why?", "So.", "exact", Path("/e"), 9.0)


class Answering(FakeHost):
    """A host whose server and worker say what the test wants."""

    def __init__(self, status: int = 200, text: str = "{}", output: Output | None = None) -> None:
        super().__init__()
        self.reply, self.output_of_worker = (status, text), output

    def request(self, *words: Any, **options: Any) -> tuple[int, str]:
        return self.reply

    def read(self, path: Path) -> bytes:
        return b"k" * 32

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return self.output_of_worker


def watched(**promise: Any) -> Watched:
    return Watched(instance(Path("/s/instances/a")), Promise(**promise), "1 100", False, False, False)


def ask(host: Answering, what: str, **promise: Any) -> tuple[str, str]:
    """Result and reason."""
    questions = Questions(State(Path("/s")), host)
    questions._answer(watched(**promise), what)
    [reply] = questions.replies()
    assert (reply.name, reply.run, reply.what) == ("a", "1 100", what)
    return reply.result, reply.why


def said(text: str | None, finish: str = "stop") -> str:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "finish_reason": finish, "message": message}]})


@pytest.mark.parametrize(("status", "text", "result"), [
    (200, "{}", ("good", "")), (503, '{"status": "restarting"}', ("bad", '{"status": "restarting"}')),
    (0, "connection refused", ("bad", "connection refused")), (500, "", ("bad", "status 500"))])
def test_health(status: int, text: str, result: tuple[str, str]) -> None:
    assert ask(Answering(status, text), "ask-health") == result


@pytest.mark.parametrize(("status", "text", "result"), [
    (200, said("So."), "good"), (200, said(" So.\n"), "good"), (200, said("aaaaaa"), "bad"),
    (200, said("!!!!!!", "length"), "bad"), (200, said(""), "unanswered"), (200, said(None), "unanswered"),
    (200, said(None, "length"), "unanswered"), (503, "busy", "unanswered"),
    (429, "busy", "unanswered"), (0, "timed out", "unanswered"), (200, "nonsense", "unanswered")])
def test_canary(status: int, text: str, result: str) -> None:
    """Any other text is wrong, also garbage without end; a server that is busy or silent has given none."""
    assert ask(Answering(status, text), "ask-canary", canary=CANARY)[0] == result


def document(**verdicts: str) -> Output:
    return Output(0, json.dumps([{"id": name.replace("_", "."), "verdict": verdict, "evidence": ""}
                                 for name, verdict in verdicts.items()]), "")


@pytest.mark.parametrize(("output", "result", "why"), [
    (document(image_digest="proven", tee="failed"), "good", ""),
    (document(image_digest="not-checked", tee="failed"), "bad", "not proven any more: image.digest"),
    (document(tee="failed"), "bad", "not proven any more: image.digest"),
    (document(image_digest="proven", canary="failed"), "bad", "not proven any more: canary"),
    (None, "bad", "its claims could not be verified"), (Output(1, "", ""), "bad", "its claims could not be verified"),
    (Output(0, "nonsense", ""), "unanswered", ""), (Output(0, "[7]", ""), "unanswered", "")])
def test_claims_must_stay_as_they_were_at_the_start(output: Output | None, result: str, why: str) -> None:
    """That a launch without a TEE is not confidential was asked for."""
    found, reason = ask(Answering(output=output), "ask-claims", proven=frozenset({"image.digest"}))
    assert found == result
    assert why in reason


@pytest.mark.parametrize(("output", "result"), [
    (document(image_digest="proven", guest_tee="not-checked"), "unanswered"),
    (document(image_digest="proven", guest_tee="failed"), "bad"), (document(image_digest="proven"), "bad"),
    (document(image_digest="not-checked", guest_tee="not-checked"), "bad"),
    (document(image_digest="proven", guest_tee="proven"), "good")])
def test_evidence_that_did_not_come_is_no_contradiction(output: Output, result: str) -> None:
    assert ask(Answering(output=output), "ask-claims", proven=frozenset({"image.digest", "guest.tee"}))[0] == result


def test_a_question_is_asked_once_at_a_time() -> None:
    questions = Questions(State(Path("/s")), Answering())
    questions.pool.shutdown()
    questions.asked.add(("a", "ask-health"))
    questions.ask(watched(), "ask-health")  # a pool that was shut down would refuse it
    with pytest.raises(RuntimeError):
        questions.ask(watched(), "ask-canary")


def test_the_worker_prints_every_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    directory = State(tmp_path).instance("runc")
    shutil.copytree(DATA / "instances" / "runc", directory)
    (directory / "instance.json").write_text(
        (DATA / "instances" / "runc" / "instance.json").read_text().replace('"name": "a"', '"name": "runc"'))
    shutil.copy(DATA / "journals" / "launch-runc.jsonl", directory / "journal.jsonl")
    monkeypatch.setattr(daemons, "living", lambda pidfile, certain=False: 4242)

    class Silent(FakeHost):
        def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
            return None

    claims.run(claims.Order(tmp_path, "runc"), Silent())
    found = {claim["id"]: claim["verdict"] for claim in json.loads(capsys.readouterr().out)}
    assert found["process.running"] == "proven"
    assert found["image.digest"] == "not-checked"
