"""Every parameter of vLLM's OpenAI server that a text model can answer, with what its answer must show.

A case is (name, parameters, judge). A judge gets the answer as a dict; None asks for an answer only. A refused one has
the words of vLLM's own error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

QUESTION = "What is confidential computing?"
MESSAGES = [{"role": "user", "content": QUESTION}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
WEATHER = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"],
           "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Now", "parameters": WEATHER}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
# The words of the reasoning parser "granite"; a model that writes neither is taken as it is.
THOUGHT, RESPONSE = "Here is my thought process: ", "Here is my response: "
LONG = {"max_tokens": 60}

Answer = dict[str, Any]
Judge = Callable[[Answer], object] | None
Case = tuple[str, dict[str, Any], Judge]


def text(answer: Answer, at: int = 0) -> str:
    """What a choice of a chat or a completion says."""
    choice = answer["choices"][at]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def tokens(answer: Answer) -> int:
    return int(answer["usage"]["completion_tokens"])


def arguments(answer: Answer) -> Any:
    """Of the one tool call."""
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    return json.loads(call["function"]["arguments"])


def number(answer: Answer) -> object:
    return isinstance(json.loads(text(answer))["n"], int)


def reasoned(answer: Answer) -> bool:
    message = answer["choices"][0]["message"]
    return (message["reasoning"].strip(), message["content"].strip()) == ("hm.", "42")


# For chats and completions alike.
BOTH: list[Case] = [
    ("nothing", {}, lambda a: tokens(a) == 8 and a["choices"][0]["finish_reason"] == "length"),
    ("n", {"n": 3, "temperature": 1}, lambda a: [choice["index"] for choice in a["choices"]] == [0, 1, 2]),
    ("seed", {"seed": 7, "temperature": 1}, text), ("temperature", {"temperature": 2}, text),
    ("top_p", {"top_p": 0.1, "temperature": 1}, text), ("top_k", {"top_k": 1, "temperature": 1}, text),
    ("min_p", {"min_p": 0.5, "temperature": 1}, text),
    ("frequency_penalty", {"frequency_penalty": 1.5}, text), ("presence_penalty", {"presence_penalty": -2}, text),
    ("repetition_penalty", {"repetition_penalty": 1.5}, text),
    ("logit_bias", {"logit_bias": {"99": 100}, "return_token_ids": True},
     lambda a: set(a["choices"][0]["token_ids"]) == {99}),
    ("allowed_token_ids", {"allowed_token_ids": [99, 100], "return_token_ids": True},
     lambda a: set(a["choices"][0]["token_ids"]) <= {99, 100}),
    ("bad_words", {"bad_words": ["data"]}, text),
    ("stop", {"stop": ["computing"], **LONG}, lambda a: "computing" not in text(a)),
    ("stop, kept", {"stop": "e", "include_stop_str_in_output": True, **LONG}, lambda a: text(a).endswith("e")),
    ("stop_token_ids", {"stop_token_ids": [99]}, text),
    ("min_tokens", {"min_tokens": 50, **LONG}, lambda a: tokens(a) >= 50),
    ("ignore_eos", {"ignore_eos": True, **LONG}, lambda a: tokens(a) == 60),
    ("max_tokens", {"max_tokens": 1}, lambda a: tokens(a) == 1),
    ("skip_special_tokens", {"skip_special_tokens": False, **LONG}, text),
    ("spaces_between_special_tokens", {"spaces_between_special_tokens": False}, text),
    ("truncate_prompt_tokens", {"truncate_prompt_tokens": 2}, lambda a: a["usage"]["prompt_tokens"] == 2),
    ("truncation_side", {"truncate_prompt_tokens": 2, "truncation_side": "left"}, text),
    ("prompt_logprobs", {"prompt_logprobs": 1},
     lambda a: len(a.get("prompt_logprobs") or a["choices"][0]["prompt_logprobs"]) == a["usage"]["prompt_tokens"]),
    ("return_token_ids", {"return_token_ids": True}, lambda a: len(a["choices"][0]["token_ids"]) == 8),
    ("priority", {"priority": 0}, text), ("user", {"user": "x"}, text), ("request_id", {"request_id": "mine"}, text),
    ("cache_salt", {"cache_salt": "salt"}, text), ("a low priority", {"priority": 1}, text),
    ("vllm_xargs", {"vllm_xargs": {"a": 1}}, text), ("session_id", {"session_id": "s"}, text),
    ("repetition_detection", {"repetition_detection": {"max_pattern_size": 3, "min_count": 2}}, text),
    ("json_object", {"response_format": {"type": "json_object"}, **LONG}, lambda a: text(a).startswith("{")),
    ("json_schema", {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
                     "logit_bias": {}, **LONG}, None),
    ("choice", {"structured_outputs": {"choice": ["yes", "no"]}}, lambda a: text(a) in ("yes", "no")),
    ("regex", {"structured_outputs": {"regex": "[0-9]{3}"}}, lambda a: re.fullmatch("[0-9]{3}", text(a))),
    ("grammar", {"structured_outputs": {"grammar": 'root ::= "a" "b"+ "c"'}}, lambda a: text(a).startswith("ab")),
    ("json", {"structured_outputs": {"json": {"enum": [{"n": 7}]}}, **LONG}, number),
    ("structured json_object", {"structured_outputs": {"json_object": True}}, lambda a: text(a).startswith("{")),
    ("structural_tag", {"response_format": {"type": "structural_tag", "triggers": ["<a>"], "structures": [
        {"begin": "<a>", "schema": SCHEMA, "end": "</a>"}]}}, text),
    ("an unknown parameter", {"no_such_parameter": 1}, text),
]
BEAMS: Case = ("use_beam_search", {"use_beam_search": True, "n": 2, "length_penalty": 2.0},
               lambda a: len(a["choices"]) == 2)
# What vLLM answers only whole.
NO_STREAM = ("prompt_logprobs", "use_beam_search")
CHAT: list[Case] = [
    ("logprobs", {"logprobs": True}, lambda a: len(a["choices"][0]["logprobs"]["content"]) == 8),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 5},
     lambda a: len(a["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 5),
    ("logprob_token_ids", {"logprobs": True, "logprob_token_ids": [99]}, lambda a: a["choices"][0]["logprobs"]),
    ("return_tokens_as_token_ids", {"logprobs": True, "return_tokens_as_token_ids": True},
     lambda a: a["choices"][0]["logprobs"]["content"][0]["token"].startswith("token_id:")),
    ("reasoning", {"structured_outputs": {"choice": [f"{THOUGHT}hm. {RESPONSE}42"]}, **LONG}, reasoned),
    ("tool, required", {"tools": [TOOL], "tool_choice": "required", **LONG}, arguments),
    ("tool, named", {"tools": [TOOL], "tool_choice": NAMED, **LONG}, arguments),
    ("tool, auto", {"tools": [TOOL], "tool_choice": "auto"}, text),
    ("tool, none", {"tools": [TOOL], "tool_choice": "none"}, text),
    ("parallel_tool_calls", {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False, **LONG},
     arguments),
    ("reasoning_effort", {"reasoning_effort": "low"}, text), ("include_reasoning", {"include_reasoning": False}, text),
    ("max_completion_tokens", {"max_completion_tokens": 4, "max_tokens": None}, lambda a: tokens(a) == 4),
    ("echo", {"echo": True}, text), ("add_special_tokens", {"add_special_tokens": True}, text),
    ("continue_final_message", {"add_generation_prompt": False, "continue_final_message": True, "messages": [
        *MESSAGES, {"role": "assistant", "content": "Confidential"}]}, text),
    ("documents", {"documents": [{"title": "a", "text": "b"}]}, text),
    ("chat_template_kwargs", {"chat_template_kwargs": {"x": 1}}, text),
    ("system", {"messages": [{"role": "system", "content": "Be short."}, *MESSAGES]}, text),
    ("content in parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]}, text),
    ("a tool's answer", {"messages": [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "x", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "5"}]}, text),
    ("store, metadata", {"store": True, "metadata": {"a": "b"}}, text),
    ("service_tier", {"service_tier": "auto"}, text),
    ("return_prompt_text", {"return_prompt_text": True}, lambda a: QUESTION in a["prompt_text"]),
]
COMPLETION: list[Case] = [
    ("logprobs", {"logprobs": 1}, lambda a: len(a["choices"][0]["logprobs"]["tokens"]) == 8),
    ("echo", {"echo": True}, lambda a: text(a).startswith(QUESTION)),
    ("echo, logprobs", {"echo": True, "logprobs": 1},
     lambda a: a["choices"][0]["logprobs"]["token_logprobs"][0] is None),
    ("best_of", {"best_of": 2, "n": 1, "temperature": 1}, text),
    ("prompts", {"prompt": [QUESTION, "Who?"]}, lambda a: [choice["index"] for choice in a["choices"]] == [0, 1]),
    ("token ids", {"prompt": [60, 61, 62]}, lambda a: a["usage"]["prompt_tokens"] == 3),
    ("prompts of token ids", {"prompt": [[60, 61], [62]]}, lambda a: len(a["choices"]) == 2),
    ("add_special_tokens", {"add_special_tokens": False}, text),
]
RESPONSES: list[Case] = [
    ("nothing", {}, lambda a: a["output"][-1]["content"][0]["text"]), ("instructions", {"instructions": "Short"}, None),
    ("messages", {"input": [{"role": "user", "content": QUESTION}]}, None),
    ("logprobs", {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
     lambda a: len(a["output"][-1]["content"][0]["logprobs"]) == 8),
    ("json_schema", {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"enum": [{"n": 7}]}}},
                     "max_output_tokens": 60}, lambda a: json.loads(a["output"][-1]["content"][0]["text"]) == {"n": 7}),
    ("tools", {"tools": [{"type": "function", "name": "get_weather", "parameters": WEATHER}]}, None),
    ("tool, required", {"tools": [{"type": "function", "name": "get_weather", "parameters": WEATHER}],
                        "tool_choice": "required", "max_output_tokens": 60},
     lambda a: (a["output"][0]["type"], a["output"][0]["name"]) == ("function_call", "get_weather")),
    ("sampling", {"temperature": 1, "top_p": 0.5, "top_k": 3, "seed": 5}, None),
    ("reasoning", {"reasoning": {"effort": "low"}}, None), ("store", {"store": False}, None),
    ("metadata, user, truncation", {"metadata": {"a": "b"}, "user": "u", "truncation": "auto"}, None),
]
# What vLLM refuses with its own words: the parameters, and a piece of the words.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "greedy"), ({"n": 0}, "at least 1"), ({"n": 129, "temperature": 1}, "at most 128"),
    ({"temperature": -1}, "non-negative"), ({"top_p": 0}, "top_p"),
    ({"top_k": -5}, "top_k"), ({"min_p": 2}, "min_p"), ({"presence_penalty": 9}, "presence_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"), ({"logit_bias": {"999999": 1}}, "out-of-vocab"),
    ({"stop": ""}, "stop"), ({"stop_token_ids": [-1]}, "out-of-vocab"), ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**9}, "max_model_len"), ({"min_tokens": 9}, "min_tokens"), ({"seed": 2**64}, "seed"),
    ({"allowed_token_ids": []}, "allowed_token_ids"), ({"bad_words": [""]}, "bad_words"),
    ({"prompt_logprobs": 999}, "prompt_logprobs"), ({"truncate_prompt_tokens": 9999}, "max_model_len"),
    ({"response_format": {"type": "odd"}}, "response_format"), ({"structured_outputs": {}}, "structured outputs"),
    ({"structured_outputs": {"regex": "["}}, "regex"), ({"structured_outputs": {"grammar": "odd ::"}}, "grammar"),
    ({"structured_outputs": {"json": "{"}}, "JSON"), ({"model": "other"}, "does not exist"),
    ({"stream_options": {"include_usage": True}}, "stream"), ({"thinking_token_budget": 5}, "reasoning"),
]
REFUSED_CHAT: list[tuple[dict[str, Any], str]] = [
    ({"logprobs": True, "top_logprobs": 99}, "max allowed"), ({"top_logprobs": 2}, "logprobs"),
    ({"tool_choice": "required"}, "tool"), ({"messages": []}, ""), ({"reasoning_effort": "odd"}, "reasoning_effort"),
    ({"chat_template": "{{ 1 }}"}, "template"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/"}}]}]},
     "multimodal"),
    ({"messages": [{"role": "user", "content": "word " * 400}]}, "maximum context length"),
]
REFUSED_COMPLETION: list[tuple[dict[str, Any], str]] = [
    ({"logprobs": 99}, "max allowed"), ({"suffix": "x"}, "suffix"), ({"prompt": []}, "prompt"),
    ({"prompt": [999999]}, "out of vocabulary"), ({"prompt": "word " * 400}, "maximum context length"),
    ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
]
# Routes of which this model can answer none; (path, body).
OTHER_MODELS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"input": QUESTION}), ("/v2/embed", {"texts": [QUESTION], "input_type": "x"}),
    ("/score", {"queries": "a", "documents": ["b"]}), ("/v1/score", {"queries": "a", "documents": ["b"]}),
    ("/rerank", {"query": "a", "documents": ["b"]}), ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ("/v2/rerank", {"query": "a", "documents": ["b"]}), ("/pooling", {"input": "a"}), ("/classify", {"input": "a"}),
    ("/v1/audio/transcriptions", {}), ("/v1/audio/translations", {}),
]
