"""Tests of the API through the published port, by OpenAI's own client, one parameter at a time, whole and as a stream.

They need a vLLM, whose start takes longer than all of them: `test_run` imports them, so that they share its instance.
After each the engine is the same process and answers a plain request.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration import api_cases as c
from tests.integration.machine import Vmtool, command, output

MODEL = "canary"
SMALL = {"max_tokens": 8, "temperature": 0}
Create = Callable[..., Any]


@dataclass(frozen=True)
class Api:
    """A client of the instance.

    Args:
        root: the server's address without /v1.
    """

    client: openai.OpenAI
    root: str

    def ask(self, kind: str, parameters: dict[str, Any], *, stream: bool = False) -> c.Answer:
        """The answer as a dict; of a stream what its pieces add up to.

        Raises:
            openai.APIError: the server refused, whole or in the stream.
        """
        create, body = self.prepared(kind, parameters)
        if not stream:
            return dict(create(**body).to_dict())
        return together([event.to_dict() for event in create(**body, stream=True)])

    def prepared(self, kind: str, parameters: dict[str, Any]) -> tuple[Create, dict[str, Any]]:
        """The client's method, with the parameters that it knows as its own and the others beside them."""
        creates: dict[str, Create] = {"chat": self.client.chat.completions.create,
                                      "completions": self.client.completions.create,
                                      "responses": self.client.responses.create}
        create = creates[kind]
        base = {"chat": {"messages": c.MESSAGES, **SMALL}, "completions": {"prompt": c.QUESTION, **SMALL},
                "responses": {"input": c.QUESTION, "max_output_tokens": 8, "temperature": 0}}[kind]
        given = {name: value for name, value in {"model": MODEL, **base, **parameters}.items() if value is not None}
        known = inspect.signature(create).parameters
        other = {name: value for name, value in given.items() if name not in known}
        return create, {name: value for name, value in given.items() if name in known} | {"extra_body": other}

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(f"{self.root}{path}", body={"model": MODEL, **body}, cast_to=object)


def together(events: list[dict[str, Any]]) -> c.Answer:
    """What the pieces of a stream say together, in the form of a whole answer; of Responses the last event's."""
    if "type" in events[-1]:
        return dict(events[-1]["response"])
    said: dict[int, str] = {}
    for choice in (choice for event in events for choice in event["choices"]):
        piece = choice["delta"].get("content") if "delta" in choice else choice["text"]
        said[choice["index"]] = said.get(choice["index"], "") + (piece or "")
    return {"choices": [{"text": said[index]} for index in sorted(said)]}


def start_time(pid: str) -> str:
    """The kernel's start time of a process, which names it for good with its pid."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.fixture(scope="module")
def engine(api: Api) -> dict[str, str]:
    """vLLM's processes beside the API's own: pid -> start time."""
    found = [pid for pid in output("pgrep", "-f", "VLLM::").split() if command(pid).startswith("VLLM::")]
    assert found
    return {pid: start_time(pid) for pid in found}


@pytest.fixture(scope="module")
def api(vmtool: Vmtool, running: object, published: int) -> Iterator[Api]:
    root = f"http://127.0.0.1:{published}"
    key = (vmtool.state / "instances" / "answers" / "secret" / "api-key").read_text().strip()
    with openai.OpenAI(base_url=f"{root}/v1", api_key=key, max_retries=0, timeout=600) as client:
        yield Api(client, root)


@pytest.fixture
def unharmed(api: Api, engine: dict[str, str]) -> Iterator[None]:
    """The engine is afterwards the same process, and answers."""
    yield
    assert {pid: start_time(pid) for pid in engine} == engine
    assert c.text(api.ask("completions", {"max_tokens": 1}))


def params(cases: dict[str, Sequence[tuple[Any, ...]]], *, twice: Sequence[tuple[Any, ...]] = ()) -> list[Any]:
    """The kind of request and each of its cases; those that a chat shows too are slow for completions."""
    return [pytest.param(kind, *case, id=f"{kind}, {case[0]}"[:60], marks=[pytest.mark.slow] * (
        kind == "completions" and case in twice)) for kind, listed in cases.items() for case in listed]


@pytest.mark.parametrize(("kind", "name", "parameters", "judge"), params({
    "chat": [*c.BOTH, *c.CHAT], "completions": [*c.BOTH, c.BEAMS, *c.COMPLETION], "responses": c.RESPONSES},
    twice=c.BOTH))
def test_a_parameter_is_answered(api: Api, unharmed: None, kind: str, name: str, parameters: dict[str, Any],
                                 judge: c.Judge) -> None:
    answer = api.ask(kind, parameters)
    assert judge is None or judge(answer), answer
    if name in c.NO_STREAM:
        with pytest.raises(openai.BadRequestError, match="tream"):
            api.ask(kind, parameters, stream=True)
        return
    streamed = api.ask(kind, parameters, stream=True)
    if kind == "responses":
        assert streamed["status"] == answer["status"]
    elif parameters.get("temperature", 0) == 0 and "tools" not in parameters:
        assert [c.text(streamed, at) for at in range(len(streamed["choices"]))] == [
            c.text(answer, at) for at in range(len(answer["choices"]))]


@pytest.mark.parametrize(("kind", "parameters", "words"), params({
    "chat": [*c.REFUSED, *c.REFUSED_CHAT], "completions": [*c.REFUSED, *c.REFUSED_COMPLETION]}, twice=c.REFUSED))
def test_what_cannot_be_is_refused_in_vllms_own_words(api: Api, unharmed: None, kind: str, parameters: dict[str, Any],
                                                      words: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        api.ask(kind, parameters)
    assert 400 <= refused.value.status_code < 500
    assert words in str(refused.value)
    if "stream_options" not in parameters:
        with pytest.raises(openai.APIError) as in_stream:
            api.ask(kind, parameters, stream=True)
        assert words in str(in_stream.value)


@pytest.mark.parametrize(("path", "body"), c.OTHER_MODELS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_this_model_cannot_do_gets_vllms_404(api: Api, unharmed: None, path: str, body: dict[str, Any]) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        api.post(path, **body)
    assert "not served here" not in str(refused.value)


def test_the_model_and_its_tokens(api: Api, unharmed: None) -> None:
    assert [model.id for model in api.client.models.list()] == [MODEL]
    assert api.client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        api.client.models.retrieve("other")
    tokens = api.post("/tokenize", prompt=c.QUESTION, add_special_tokens=False)["tokens"]
    assert api.post("/detokenize", tokens=tokens)["prompt"] == c.QUESTION
    assert api.post("/tokenize", messages=c.MESSAGES, return_token_strs=True)["token_strs"]
    by_ids = api.ask("completions", {"prompt": tokens, "add_special_tokens": False})
    assert c.text(by_ids) == c.text(api.ask("completions", {"add_special_tokens": False}))


def test_other_forms_of_the_api(api: Api, unharmed: None) -> None:
    message = api.post("/v1/messages", max_tokens=8, messages=c.MESSAGES)
    assert message["content"][0]["text"]
    assert api.post("/v1/messages/count_tokens", messages=c.MESSAGES)["input_tokens"] > 3
    assert len(api.post("/v1/chat/completions/batch", messages=[c.MESSAGES] * 2, max_tokens=4)["choices"]) == 2
    with pytest.raises(openai.PermissionDeniedError, match="--enable-scale-out"):
        api.post("/inference/v1/generate", token_ids=[60, 61], sampling_params={"max_tokens": 3})


def test_a_stream_ends_with_its_usage_when_it_is_asked_for(api: Api, unharmed: None) -> None:
    for kind in ("chat", "completions"):
        create, body = api.prepared(kind, {"stream_options": {"include_usage": True}})
        *events, last = [event.to_dict() for event in create(**body, stream=True)]
        assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 8)
        assert len(events) > 4, "it comes in pieces"


def test_the_same_seed_says_the_same(api: Api, unharmed: None) -> None:
    asked = {"seed": 11, "temperature": 2, "max_tokens": 30, "logit_bias": {str(at): 9 for at in range(90, 130)}}
    said = {c.text(api.ask("chat", asked)) for _ in range(3)}
    assert len(said) == 1
    assert len({c.text(api.ask("chat", asked | {"seed": seed})) for seed in range(5)}) > 1


def test_clients_that_go_away_leave_nothing_behind(api: Api, unharmed: None) -> None:
    create, body = api.prepared("completions", {"max_tokens": 200, "ignore_eos": True})
    for _ in range(20):
        with create(**body, stream=True) as stream:
            next(iter(stream))


def test_two_hundred_streams_at_once(api: Api, unharmed: None) -> None:
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(c.text(api.ask("chat", {}, stream=True))))
               for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert len(said) == 200
    assert len(set(said)) == 1, "the same question at temperature 0"
