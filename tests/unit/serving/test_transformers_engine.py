"""The small server in vLLM's place: what it answers, with a generator that repeats the question."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from vmtool.serving.transformers_engine import Small


class Echo:
    def answer(self, prompt: Any, tokens: int, temperature: float) -> str:
        if prompt == "too long":
            raise ValueError("the prompt has 600 tokens")
        return f"{prompt if isinstance(prompt, str) else prompt[-1]['content']} {tokens} {temperature:g}"


def ask(method: str, path: str, document: object = None, *, ready: bool = True) -> httpx.Response:
    async def go() -> httpx.Response:
        application = Small(Echo, "canary")
        if ready:
            await application.prepare()
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://small") as client:
            return await client.request(method, path, json=document)

    return asyncio.run(go())


def chat(**more: object) -> dict[str, object]:
    return {"model": "canary", "messages": [{"role": "user", "content": "why?"}], "temperature": 0, **more}


def test_it_is_healthy_once_the_model_is_there() -> None:
    assert ask("GET", "/health", ready=False).status_code == 503
    assert ask("GET", "/health").status_code == 200
    assert ask("POST", "/v1/chat/completions", chat(), ready=False).status_code == 503


def test_a_chat() -> None:
    answer = ask("POST", "/v1/chat/completions", chat(max_tokens=7)).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "why? 7 0"}
    assert answer["model"] == "canary"
    assert ask("GET", "/v1/models").json()["data"][0]["id"] == "canary"


def test_a_stream_comes_in_one_piece() -> None:
    lines = [line for line in ask("POST", "/v1/chat/completions", chat(stream=True)).text.splitlines() if line]
    assert lines[1] == "data: [DONE]"
    assert json.loads(lines[0].removeprefix("data: "))["choices"][0]["delta"]["content"] == "why? 256 0"


def test_plain_text_is_continued() -> None:
    answer = ask("POST", "/v1/completions", {"model": "canary", "prompt": "once", "max_tokens": 3, "temperature": 0.5})
    assert answer.json()["choices"][0]["text"] == "once 3 0.5"


@pytest.mark.parametrize(("path", "document", "status"), [
    ("/v1/chat/completions", chat(model="other"), 404), ("/v1/chat/completions", {"model": "canary"}, 400),
    ("/v1/chat/completions", [], 400), ("/v1/completions", {"prompt": "too long"}, 400), ("/metrics", {}, 404)])
def test_what_it_does_not_understand(path: str, document: object, status: int) -> None:
    answer = ask("POST", path, document)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
