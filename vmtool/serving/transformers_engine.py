"""A small server in vLLM's place, on transformers: for guests in which vLLM would take minutes to start.

    python3 -m vmtool.serving.transformers_engine --model DIR --served-model-name NAME --uds SOCKET

It speaks the part of the OpenAI API that the front lets through, one request at a time. The answer is whole; a client
that asks for a stream gets it in one piece. It is no engine for production: no batching, no paging.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol

from vmtool.serving.encrypted.process import is_encrypted, leave_no_core

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON, EVENTS = b"application/json", b"text/event-stream"
DEFAULT_TOKENS = 256


class Generator(Protocol):
    """What answers. `prompt` is a list of chat messages, or plain text to be continued."""

    def answer(self, prompt: Any, tokens: int, temperature: float) -> str: ...


class Transformers:
    """A causal language model of a directory, on the CPU."""

    def __init__(self, directory: Path) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self.model = load_encrypted(directory) if is_encrypted() else load_plain(directory)

    def answer(self, prompt: Any, tokens: int, temperature: float) -> str:
        import torch

        if isinstance(prompt, str):
            inputs = self.tokenizer(prompt, return_tensors="pt")["input_ids"]
        else:
            text = self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
            inputs = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        room = int(self.model.config.max_position_embeddings) - inputs.shape[1]
        if room < 1:
            raise ValueError(f"the prompt has {inputs.shape[1]} tokens, more than the model takes")
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        with torch.inference_mode():
            made = self.model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=min(tokens, room),
                                       **sampling)
        return str(self.tokenizer.decode(made[0, inputs.shape[1]:], skip_special_tokens=True))


def load_plain(directory: Path) -> Any:
    """A model whose weights are in clear."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, local_files_only=True).eval()


def load_encrypted(directory: Path) -> Any:
    """A model whose keys the entrypoint gives; the directory has what is in clear of it."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    from vmtool.serving.encrypted.receive import receive_bundle
    from vmtool.serving.encrypted.tensors import load_tensors

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    # It keeps what it is given, so each tensor stays in a buffer of its own.
    weights = dict(load_tensors(receive_bundle()))
    # The automatic class takes no weights without a directory.
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(None, config=config, state_dict=weights).eval()


class Small:
    """The ASGI application.

    Args:
        load: makes the generator; called once, in a thread, so that /health can say that it is not there yet.
        name: what clients call the model.
    """

    def __init__(self, load: Callable[[], Generator], name: str) -> None:
        self.load, self.name = load, name
        self.generator: Generator | None = None
        self.turn = asyncio.Lock()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        route = scope.get("method"), scope.get("path")
        if scope["type"] != "http":
            return
        if route == ("GET", "/health"):
            await reply(send, 200 if self.generator else 503, {})
        elif route == ("GET", "/v1/models"):
            await reply(send, 200, {"object": "list", "data": [{"id": self.name, "object": "model"}]})
        elif route in (("POST", "/v1/chat/completions"), ("POST", "/v1/completions")):
            await self._complete(await body(receive), route[1] == "/v1/chat/completions", send)
        else:
            await reply(send, 404, error("there is no such path here"))

    async def prepare(self) -> None:
        """Load the model."""
        self.generator = await asyncio.to_thread(self.load)

    async def _complete(self, data: bytes, chat: bool, send: Send) -> None:
        try:
            request = json.loads(data)
            prompt = request["messages" if chat else "prompt"]
            tokens = int(request.get("max_completion_tokens") or request.get("max_tokens") or DEFAULT_TOKENS)
            temperature = float(request.get("temperature", 1.0))
            if self.generator is None:
                return await reply(send, 503, error("the model is being loaded; try again"))
            if request.get("model", self.name) != self.name:
                return await reply(send, 404, error(f"there is no model {request.get('model')!r} here"))
            async with self.turn:
                text = await asyncio.to_thread(self.generator.answer, prompt, tokens, temperature)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            return await reply(send, 400, error(f"not understood: {problem}"))
        if chat and request.get("stream"):
            whole = self._document("chat.completion.chunk", {"delta": {"role": "assistant", "content": text}})
            await raw(send, 200, EVENTS, b"data: " + json.dumps(whole).encode() + b"\n\ndata: [DONE]\n\n")
        elif chat:
            choice = {"message": {"role": "assistant", "content": text}}
            await reply(send, 200, self._document("chat.completion", choice))
        else:
            await reply(send, 200, self._document("text_completion", {"text": text}))

    def _document(self, kind: str, choice: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": f"small-{time.time_ns()}", "object": kind, "created": int(time.time()), "model": self.name,
                "choices": [{"index": 0, "finish_reason": "stop", **choice}]}


async def body(receive: Receive) -> bytes:
    """A request's body; the front has bounded it."""
    data, more = b"", True
    while more:
        message = await receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
    return data


def error(text: str) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    return {"error": {"message": text, "type": "invalid_request_error"}}


async def reply(send: Send, status: int, document: Mapping[str, Any]) -> None:
    """Send one JSON document."""
    await raw(send, status, JSON, json.dumps(document, ensure_ascii=False).encode())


async def raw(send: Send, status: int, kind: bytes, data: bytes) -> None:
    """Send one whole response."""
    headers = [(b"content-type", kind), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def serve(application: Small, socket: str) -> None:
    """Listen, load the model, and serve until SIGTERM; a model that does not load ends it."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(application, uds=socket, log_level="warning", lifespan="off", ws="none",
                                           timeout_graceful_shutdown=2))
    serving = asyncio.create_task(server.serve())
    try:
        await application.prepare()
    except BaseException:
        server.should_exit = True
        await serving
        raise
    await serving


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="vmtool.serving.transformers_engine", allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--uds", required=True)
    known = parser.parse_args()
    if is_encrypted():
        leave_no_core()
    asyncio.run(serve(Small(lambda: Transformers(known.model), known.served_model_name), known.uds))


if __name__ == "__main__":
    main()
