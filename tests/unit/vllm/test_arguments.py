"""Arguments for vLLM: what vLLM would swallow or guess is refused, with its place and the mapping that was meant."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from vmtool.errors import Refused
from vmtool.rendering import shipped
from vmtool.serving.vllm_options import GRANTED, MODEL_CODE, OWN, PLAIN, SECRET, table
from vmtool.spec.load import read_spec
from vmtool.spec.runtime import Body

HEAD = """\
apiVersion: vmtool/v1
kind: Runtime
metadata: {name: a}
spec:
  runtime: {handler: runc}
  allow_unconfidential: true
  model: {name: m, path: /m}
  vllm:
"""


def read(tmp_path: Path, text: str, change: tuple[str, str] = ("", "")) -> Body:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD.replace(*change) + "".join(f"    {line}\n" for line in text.splitlines()))
    return read_spec(path).spec


def refused(tmp_path: Path, text: str, change: tuple[str, str] = ("", "")) -> Refused:
    with pytest.raises(Refused) as error:
        read(tmp_path, text, change)
    assert error.value.code == 2
    return error.value


def words(body: Body) -> list[str]:
    return [word for argument in body.server_arguments for word in argument.words]


@pytest.mark.parametrize("text", [
    "args: {max-model-len: 256, enforce-eager: true, dtype: bfloat16}",
    "args: {max_model_len: '256', enforce_eager: true, dtype: bfloat16}",
    "args: --max-model-len 256 --enforce-eager --dtype bfloat16",
    "args: >-\n  --max-model-len 256\n  --enforce-eager --dtype=bfloat16",
    "args: [--max-model-len, '256', --enforce-eager, --dtype, bfloat16]",
    "args: [--max_model_len=256, --enforce-eager, --dtype=bfloat16]",
])
def test_every_form_gives_the_same_words(tmp_path: Path, text: str) -> None:
    assert words(read(tmp_path, text)) == ["--max-model-len=256", "--enforce-eager", "--dtype=bfloat16"]


@pytest.mark.parametrize(("text", "expected"), [
    ("args: {speculative-config: {method: ngram, num_speculative_tokens: 3}}",
     ['--speculative-config={"method": "ngram", "num_speculative_tokens": 3}']),
    ("args: --speculative-config.method ngram --speculative-config.num_speculative_tokens 3",
     ['--speculative-config={"method": "ngram", "num_speculative_tokens": 3}']),
    ("args: >-\n  --limit-mm-per-prompt '{\"image\": 15}'", ['--limit-mm-per-prompt={"image": 15}']),
    ("args: {limit-mm-per-prompt: '{\"image\": 15}'}", ['--limit-mm-per-prompt={"image": 15}']),
    ("args: {enforce-eager: false, disable-log-stats: false}", ["--no-enforce-eager"]),
    ("args: --no-enforce-eager --seed -1", ["--no-enforce-eager", "--seed=-1"]),
    ("args: {cudagraph-capture-sizes: [1, 2], lora-target-modules: q_proj}",
     ["--cudagraph-capture-sizes", "1", "2", "--lora-target-modules", "q_proj"]),
    ("args: -tp 2 -q awq -O3", ["--tensor-parallel-size=2", "--quantization=awq", "--optimization-level=3"]),
    ("args: {kv-cache-memory-bytes: 64M, gpu-memory-utilization: 0.5, max-model-len: auto}",
     ["--kv-cache-memory-bytes=64M", "--gpu-memory-utilization=0.5", "--max-model-len=auto"]),
    ("args: []", []), ("args: ''", []), ("args: {}", []),
])
def test_what_vllm_is_given(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert words(read(tmp_path, text)) == expected


@pytest.mark.parametrize(("text", "line", "message", "meant"), [
    ("args: |\n  --dtype bfloat16 --kv-cache-memory-bytes 64M \\\n  --max-model-len=64\n", 9, "a backslash at the end",
     "{dtype: bfloat16, kv-cache-memory-bytes: 64M, max-model-len: 64}"),
    ("args: >-\n  --dtype bfloat16 \\\n  --max-model-len=64", 9, "a backslash at the end",
     "{dtype: bfloat16, max-model-len: 64}"),
    ("args: |\n  --enforce-eager # as on the old host\n  --seed 1", 9, "# is a word for vLLM here, not a comment",
     "{enforce-eager: true, seed: 1}"),
    ("args:\n  - --dtype=auto\n  - --max-model-len 64", 11, "args.1: '--max-model-len 64' is one word",
     "{dtype: auto, max-model-len: 64}"),
    ("args:\n  - --dtype=auto\n  - '# eager'\n  - --enforce-eager", 10, "# eager is a word for vLLM here",
     "{dtype: auto, enforce-eager: true}"),
    ("args: --enforce-eager stray", 9, "'stray' belongs to no option", ""),
    ("args: stray --enforce-eager", 9, "'stray' belongs to no option", "{enforce-eager: true}"),
    ("args: --enforce-eager true", 9, "--enforce-eager takes no value", ""),
    ("args: --dtype auto half", 9, "--dtype takes one value, so 'half' belongs to no option", ""),
    ("args: >-\n  --limit-mm-per-prompt {\"image\": 15, \"audio\": 1}\n  --seed 1", 9,
     "'{image: 15, audio: 1}' is not JSON", "{limit-mm-per-prompt: {image: 15, audio: 1}, seed: 1}"),
    ("args: --default-chat-template-kwargs {\"enable_thinking\":true}", 9, "'{enable_thinking:true}' is not JSON", ""),
    ("args: [--dtype, auto, --dtype, half]", 9, "args.2: --dtype is given twice", ""),
    ("args: --max-model-len", 9, "--max-model-len needs a value", ""),
    ("args: --max-model-len --enforce-eager", 9, "--max-model-len needs a value", ""),
    ("args: --dtype bf16", 9, "'bf16' is not one of auto, bfloat16, float", ""),
    ("args: --seed x", 9, "'x' is not a whole number", ""),
    ("args: --max-model-len 64MB", 9, "is not a whole number", ""),
    ("args: [--seed, 1.5]", 9, "args.1: is not a text: put it in quotes", ""),
    ("args: [[--seed]]", 9, "args.0: is not a text", ""),
    ("args: \"--dtype 'auto\"", 9, "a backslash or a quote is open at its end", ""),
    ("args: '--dtype auto \\'", 9, "a backslash or a quote is open at its end", ""),
    ("args: 5", 9, "not arguments", ""), ("args: true", 9, "not arguments", ""),
    ("args: --max-modl-len 5", 9, "unknown option --max-modl-len; did you mean 'max-model-len'?", ""),
    ("args: --max-model 5", 9, "did you mean 'max-model-len'?", ""),
    ("args: -Z 5", 9, "unknown option '-Z'", ""), ("args: --dtype auto -- x", 9, "unknown option '--'", ""),
    ("args: {max-modl-len: 5}", 9, "args.max-modl-len: unknown option --max-modl-len; did you mean", ""),
    ("args: {--max-model-len: 5}", 9, "did you mean 'max-model-len'?", ""),
    ("args:\n  dtype: auto\n  max-model-len: true", 11, "args.max-model-len: is true, and takes a whole number", ""),
    ("args:\n  dtype: auto\n  max-model-len:", 11, "args.max-model-len: has no value", ""),
    ("args: {max-model-len: 1.5}", 9, "is 1.5, and takes a whole number", ""),
    ("args: {max-model-len: [1]}", 9, "is a list, and takes a whole number", ""),
    ("args: {tool-call-parser: true}", 9, "is true, and takes a text: put it in quotes", ""),
    ("args: {enforce-eager: 'yes'}", 9, "'yes' is not true or false", ""),
    ("args: {enforce-eager: 1}", 9, "1 is not", ""),
    ("args: {enforce-eager: }", 9, "has no value; write true or false", ""),
    ("args: {no-enforce-eager: true}", 9, "write enforce-eager: false", ""),
    ("args: {max-model-len: 5, max_model_len: 6}", 9, "--max-model-len is given twice", ""),
    ("args: {speculative-config: {metod: ngram}}", 9,
    "unknown key 'metod' of speculative-config; did you mean 'method'?", ""),
    ("args: {seed: 010}", 9, "read as a number, 8: put it in quotes", ""),
])
def test_what_vllm_would_swallow_or_guess_is_refused(tmp_path: Path, text: str, line: int, message: str, meant: str
                                                     ) -> None:
    """dynamo#14321, vllm#22072, spark-vllm-docker#163."""
    error = refused(tmp_path, text)
    assert any(f"a.yaml:{line}: spec.vllm.args" in each and message in each for each in error.details), error.details
    if meant:
        assert error.hint == f"write a mapping, in which nothing can be mistaken: args: {meant}"
        assert words(read(tmp_path, error.hint.partition("mistaken: ")[2])), "what the hint shows is read"


def test_all_mistakes_of_arguments_are_reported_together(tmp_path: Path) -> None:
    error = refused(tmp_path, "args: --host 0.0.0.0 --port 8000 --api-key token-abc123 --dtype bf16 --seed 1 stray")
    found = "\n".join(error.details)
    for text in ("--host is decided elsewhere", "spec.network.publish", "--port is decided elsewhere", "'bf16'",
                 "--api-key is a secret", "spec.vllm.api_key_file"):
        assert text in found
    assert "token-abc123" not in found + error.hint + error.message


@pytest.mark.parametrize(("option", "value"), [
    ("model", "x"), ("served-model-name", "x"), ("host", "::"), ("port", 1), ("uds", "/x"), ("api-key", "x"),
    ("hf-token", "x"), ("ssl-keyfile", "x"), ("ssl-certfile", "x"), ("root-path", "/"), ("config", "x.yaml"),
    ("headless", True), ("grpc", True), ("api-server-count", 2), ("watermark-config", {"key": 5}),
])
def test_what_nobody_can_give(tmp_path: Path, option: str, value: Any) -> None:
    allow = f"allow: {json.dumps(GRANTED)}"
    text = f"args: {json.dumps({option: value})}\n{allow}"
    assert f"args.{option}: --{option} " in refused(tmp_path, text).details[0]
    flag = "" if value is True else f"='{json.dumps(value) if isinstance(value, dict) else value}'"
    assert f"--{option} " in refused(tmp_path, f"args: >-\n  --{option}{flag}\n{allow}").details[0]


@pytest.mark.parametrize(("power", "text"), [
    ("code", "args: {worker-cls: a.B}"), ("code", "args: {worker-extension-cls: a.B}"),
    ("code", "args: {middleware: a.b}"), ("code", "args: {logits-processors: [a.B]}"),
    ("code", "args: {scheduler-cls: a.B}"), ("code", "args: {io-processor-plugin: a}"),
    ("code", "args: {tool-parser-plugin: /models/local/a.py}"), ("code", "args: {log-config-file: /models/local/l}"),
    ("code", "args: {model-class-overrides: {A: 'a:B'}}"), ("code", "args: {distributed-executor-backend: a.B}"),
    ("code", "args: {kv-transfer-config: {kv_connector_module_path: a}}"),
    ("code", "args: --kv-transfer-config.kv_connector_module_path a"),
    ("code", "args: {structured-outputs-config: {reasoning_parser_plugin: a}}"),
    ("code", "args: {logging-config: {pylogging_config_file: /l}}"),
    ("code", "args: {compilation-config: {inductor_passes: {a: b.C}}}"),
    ("code", "args: {compilation-config: {backend: a.b}}"),
    ("code", "args: {speculative-config: {method: custom_class}}"), ("code", "args: {spec-method: custom_class}"),
    ("code", "files: {tool-parser-plugin: a.py}"), ("code", "files: {reasoning-parser-plugin: a.py}"),
    ("code", "env: {LD_PRELOAD: /x.so}"), ("code", "env: {PYTHONPATH: /x}"), ("code", "env: {LD_LIBRARY_PATH: /x}"),
    ("code", "env: {VLLM_PLUGINS: x}"), ("code", "env: {VLLM_ALLOW_INSECURE_SERIALIZATION: '1'}"),
    ("code", "env: {LD_AUDIT: /x}"), ("code", "env: {PYTHONINSPECT: '1'}"),
    ("code", "env: {VLLM_RUST_FRONTEND_PATH: /x}"),
    ("code", "env: {PATH: /x}"), ("code", "env: {GLIBC_TUNABLES: x}"),
    ("files", "args: {download-dir: /tmp/x}"), ("files", "args: {allowed-local-media-path: /}"),
    ("files", "args: {profiler-config: {profiler: torch, torch_profiler_dir: /tmp/x}}"),
    ("files", "args: {model-loader-extra-config: {tensorizer_uri: s3://x}}"),
    ("files", "args: {lora-modules: [a=/x]}"), ("files", "args: {speculative-config: {model: /x}}"),
    ("files", "env: {HF_HOME: /x}"), ("files", "env: {HOME: /x}"),
    ("network", "args: {kv-events-config: {enable_kv_cache_events: true, publisher: zmq}}"),
    ("network", "args: --kv-events-config.publisher zmq"), ("network", "args: {data-parallel-rpc-port: 5}"),
    ("network", "args: {data-parallel-address: 10.0.0.1}"), ("network", "args: {master-addr: 10.0.0.1}"),
    ("network", "args: {nnodes: 2}"), ("network", "args: {otlp-traces-endpoint: 'http://x'}"),
    ("network", "args: {distributed-executor-backend: ray}"), ("network", "env: {HTTPS_PROXY: 'http://p'}"),
    ("network", "env: {VLLM_HOST_IP: 0.0.0.0}"), ("network", "env: {VLLM_PORT: '5'}"),
    ("network", "env: {http_proxy: 'http://p'}"),
    ("network", "env: {VLLM_SERVER_DEV_MODE: '1'}"), ("network", "env: {VLLM_NO_USAGE_STATS: '0'}"),
    ("logging", "args: {enable-log-requests: true}"), ("logging", "args: {enable-log-outputs: true}"),
    ("logging", "env: {VLLM_DEBUG_LOG_API_SERVER_RESPONSE: '1'}"),
    ("requests", "args: {enable-prompt-embeds: true}"), ("requests", "args: {trust-request-chat-template: true}"),
    ("requests", "env: {VLLM_ALLOW_RUNTIME_LORA_UPDATING: '1'}"),
    ("unknown", "args: {brand-new: 5}"), ("unknown", "args: --brand-new 5"),
    ("unknown", "env: {SOME_NEW_SETTING: '1'}"),
])
def test_each_power_needs_its_key_and_none_else_will_do(tmp_path: Path, power: str, text: str) -> None:
    others = [each for each in GRANTED if each != power]
    for granted in ([], others):
        error = refused(tmp_path, f"{text}\nallow: {json.dumps(granted)}")
        assert f"spec.vllm.allow: [{power}]" in error.details[0], error.details
    # Files that run code, and loggers, are two powers at once.
    assert read(tmp_path, f"{text}\nallow: {json.dumps([power, 'files'] if power == 'code' else [power])}")


@pytest.mark.parametrize("name", ["HF_TOKEN", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
    "MY_PASSWORD",
                                  "WANDB_API_KEY", "hf_token", "S3_SECRET_ACCESS_KEY", "GITHUB_PAT", "DB_PASSWD"])
def test_a_secret_is_never_taken_as_a_variable(tmp_path: Path, name: str) -> None:
    error = refused(tmp_path, f"env: {{{name}: hunter2}}\nallow: {json.dumps(GRANTED)}")
    assert "a secret does not belong into an environment" in error.details[0]
    assert "hunter2" not in str(error.details) + error.hint


def test_a_password_in_an_address_is_a_secret(tmp_path: Path) -> None:
    error = refused(tmp_path, "env: {HTTPS_PROXY: 'http://me:hunter2@proxy:3128'}\nallow: [network]")
    assert "holds a password" in error.details[0] and "hunter2" not in error.details[0]


@pytest.mark.parametrize("text", ["env: {OMP_NUM_THREADS: 2}", "env: {VLLM_CPU_KVCACHE_SPACE: '4'}", "env: {TZ: UTC}",
                                  "env: {NCCL_DEBUG: INFO}", "env: {VLLM_LOGGING_LEVEL: DEBUG}",
                                  "env: {PYTORCH_CUDA_ALLOC_CONF: 'expandable_segments:True'}"])
def test_variables_that_only_tune_need_nobody_s_word(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).vllm.env


@pytest.mark.parametrize(("name", "message"), [
    ("OMP_NUM_THREAD", "did you mean 'OMP_NUM_THREADS'?"), ("A B", "is not a name"), ("A=B", "is not a name"),
    ("1A", "is not a name"),
])
def test_names_of_variables(tmp_path: Path, name: str, message: str) -> None:
    assert message in refused(tmp_path, f"env: {{'{name}': '1'}}").details[0]


def test_the_model_s_own_code_has_a_key_of_its_own(tmp_path: Path) -> None:
    for text in ("args: --trust-remote-code", "args: {trust-remote-code: true}", "args: --trust_remote_code"):
        assert "write spec.model.trust_remote_code: true" in refused(tmp_path, text).details[0]
    key = ("path: /m", "path: /m, trust_remote_code: true")
    assert words(read(tmp_path, "args: {}", key)) == ["--trust-remote-code"]
    assert "spec.model.trust_remote_code: true" in refused(tmp_path, "args: {code-revision: main}").details[0]
    assert "--code-revision=main" in words(read(tmp_path, "args: {code-revision: main}", key))
    assert "spec.model.trust_remote_code: true" in refused(
        tmp_path, "args: {hf-overrides: {auto_map: {AutoModel: x.Y}}}").details[0]


@pytest.mark.parametrize(("text", "change"), [
    ("args: {}", ("path: /m", "path: /m, trust_remote_code: true")),
    ("args: {worker-cls: a.B}\nallow: [code]", ("", "")),
    ("files: {tool-parser-plugin: a.py}\nallow: [code]", ("", "")),
    ("args: {enable-log-requests: true}\nallow: [logging]", ("", "")),
    ("args: {new-one: 1}\nallow: [unknown]", ("", "")),
    ("env: {LD_PRELOAD: /x}\nallow: [code]", ("", "")),
])
def test_what_would_undo_a_tee_is_refused_in_it(tmp_path: Path, text: str, change: tuple[str, str]) -> None:
    assert read(tmp_path, text, change)
    path = tmp_path / "a.yaml"
    path.write_text(path.read_text().replace("{handler: runc}", "{handler: kata, tee: snp}"))
    with pytest.raises(Refused) as error:
        read_spec(path)
    assert "tee snp is there to protect against this host" in "\n".join(error.value.details)


def test_a_file_of_this_host_is_mounted_and_the_option_names_its_place(tmp_path: Path) -> None:
    error = refused(tmp_path, "args: --chat-template ./unsloth.jinja")
    assert "write spec.vllm.files: {chat-template: ./unsloth.jinja}" in error.details[0]
    body = read(tmp_path, "files: {chat-template: ./unsloth.jinja}")
    assert body.vllm.mounts == {"chat-template": (tmp_path / "unsloth.jinja",
                                                  "/models/files/chat-template/unsloth.jinja")}
    assert words(body) == ["--chat-template=/models/files/chat-template/unsloth.jinja"]
    assert "'dtype'" in refused(tmp_path, "files: {dtype: ./x}").details[0]
    assert "chat-template is in args too" in refused(
        tmp_path, "files: {chat-template: ./x}\nargs: {chat-template: /models/local/x}").details[0]


@pytest.mark.parametrize("value", ["/models/local/chat.jinja", "/models/local/a/../chat.jinja",
    "{{ messages[0].content }}"])
def test_what_the_model_brings_along_and_a_template_itself_need_nobody_s_word(tmp_path: Path, value: str) -> None:
    assert words(read(tmp_path, f"args: {{chat-template: '{value}'}}")) == [f"--chat-template={value}"]


@pytest.mark.parametrize("value", ["/models/local/../../etc/passwd", "/models/localx", "models/local/x",
    "~/x.jinja", "x"])
def test_a_path_elsewhere_does(tmp_path: Path, value: str) -> None:
    assert "spec.vllm.files" in refused(tmp_path, f"args: {{chat-template: '{value}'}}").details[0]


def test_a_repository_may_be_named_where_the_model_is_fetched(tmp_path: Path) -> None:
    text = "args: {tokenizer: owner/name}"
    assert refused(tmp_path, text)
    assert read(tmp_path, text, ("path: /m", "source: huggingface, repository: a/b"))


def test_the_table_is_of_the_version_that_the_image_has_and_every_power_is_a_known_one() -> None:
    locked = re.search(r"^vllm-cpu==(\S+)$", (shipped("images") / "vllm-cpu" / "requirements.in").read_text(),
        re.MULTILINE)
    assert locked and table().version == locked[1], "scripts/vllm-options vmtool/serving/vllm_options.json"
    powers = {PLAIN, SECRET, OWN, MODEL_CODE, *GRANTED}
    for option in table().options.values():
        assert {option.power, *option.keys.values(), *option.values.values()} <= powers - {"unknown"}, option.name
    assert set(table().environment.values()) <= powers - {"unknown", OWN}
    assert len(table().options) > 300 and len(table().environment) > 300


def test_what_takes_a_path_a_class_or_an_address_is_never_plain() -> None:
    """By their names: a new option of such a kind is to be looked at before it is called plain."""
    telling = re.compile(r"(^|[-_])(path|dir|file|cls|class|plugin|address|addr|host|port|endpoint|token|key|template)$"
        )
    harmless = {"response-role"}
    found = [option.name for option in table().options.values() if option.power == PLAIN
             and telling.search(option.name) and option.kind in ("text", "json", "int")]
    inner = [f"{option.name}.{key}" for option in table().options.values() for key, power in option.keys.items()
             if power == PLAIN and telling.search(key)]
    assert [name for name in (*found, *inner) if name not in harmless] == []
    tell = re.compile(r"(^|_)(PATH|DIR|FOLDER|ROOT|HOST|IP|PORT|URL|TOKEN|SECRET|PLUGINS)$|ACCESS_KEY")
    assert [name for name, power in table().environment.items() if power == PLAIN and tell.search(name)] == []


def test_the_spec_that_the_readme_shows_has_a_mapping() -> None:
    assert isinstance(yaml.safe_load((shipped("images") / "quickstart.yaml").read_text())["spec"]["vllm"]["args"], dict)


@pytest.mark.parametrize("option", ["--chat-template.x", "--max-model-len.x", "--lora-modules.x", "--enforce-eager.x",
                                    "--hf-overrides.", "--hf-overrides..a", "--hf-overrides.a..b"])
def test_only_a_mapping_has_keys_and_each_has_a_name(tmp_path: Path, option: str) -> None:
    assert "takes no key" in refused(tmp_path, f"args: ['{option}=5']").details[0]


@pytest.mark.parametrize("value", ['{"path": "/etc", "name": "=/models/local/x"}', "a=/models/local/x=/etc",
                                   '{"name": "a=/models/local/x", "path": "/etc"}', "a=/models/local/x,b=/etc"])
def test_an_adapter_s_path_is_where_vllm_looks_for_it(tmp_path: Path, value: str) -> None:
    """NAME=PATH is taken apart by vLLM only without a comma and with one =; else it is JSON."""
    for text in (f"args: {{lora-modules: ['{value}']}}", f"args: [--lora-modules, '{value}']"):
        assert "spec.vllm.allow: [files]" in refused(tmp_path, text).details[0]
    assert words(read(tmp_path, "args: {lora-modules: ['a=/models/local/x']}"))


@pytest.mark.parametrize("text", ["args: {seed: '٣'}", "args: {max-model-len: '٢٥٦'}", "args: {seed: '--5'}",
                                  "args: {gpu-memory-utilization: '٠.٩'}", "args: {kv-cache-memory-bytes: '٦٤M'}",
                                  "args: {lora-modules: []}", "args: {compilation-config: [1]}",
                                  "args: ['--speculative-config', '[1]']"])
def test_values_that_vllm_does_not_take_as_the_table_reads_them(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text)


@pytest.mark.parametrize("text", ["args: {enable-log-requests: false}", "args: [--no-enable-log-requests]",
                                  "args: {enable-prompt-embeds: false, trust-request-chat-template: false}",
                                  "args: {gpu-memory-utilization: '.9'}", "args: [-O, '3']",
                                  "args: ['--hf-overrides.a.b=1', '--hf-overrides.a.c=2']"])
def test_a_flag_that_is_off_needs_nobody_s_word(tmp_path: Path, text: str) -> None:
    assert words(read(tmp_path, text))


def test_keys_of_one_mapping_may_come_one_by_one_but_none_twice(tmp_path: Path) -> None:
    [word] = words(read(tmp_path, "args: ['--hf-overrides.a.b=1', '--hf-overrides.a.c=2', '--hf-overrides.d=3']"))
    assert json.loads(word.partition("=")[2]) == {"a": {"b": 1, "c": 2}, "d": 3}
    assert "given twice" in refused(tmp_path, "args: ['--hf-overrides.a.b=1', '--hf-overrides.a.b=2']").details[0]


@pytest.mark.parametrize("text", [
    "env: {HTTPS_PROXY: 'me:hunter2@proxy:3128'}", "env: {HF_ENDPOINT: 'https://a/ http://me:hunter2@b'}",
    "env: {HF_ENDPOINT: 'https://hf_hunter2hunter2hunter2hunter2hunter2@hub'}",
    "args: {otlp-traces-endpoint: 'http://me:hunter2@collector'}",
    "args: [--otlp-traces-endpoint, 'http://me:hunter2@collector']",
    "args: {hf-overrides: {a: [{b: 'hf_hunter2hunter2hunter2hunter2hunter2'}]}}",
    "args: {model-loader-extra-config: {endpoint: 's3://key:hunter2@bucket'}}",
])
def test_a_secret_is_known_by_its_form_wherever_it_stands(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, f"{text}\nallow: {json.dumps(GRANTED)}")
    assert "holds a password or a token" in error.details[0]
    assert "hunter2" not in str(error.details) + error.hint + error.message


def test_what_no_program_can_be_given_is_refused_at_once(tmp_path: Path) -> None:
    """The kernel takes 128 KiB in one word (E2BIG); a value of 200 KB took a regular expression minutes."""
    for text in (f"env: {{TZ: {'x' * 200_000}}}", f"env: {{TZ: '{'a://' * 50_000}'}}",
                 f"args: {{hf-overrides: {{a: {'x' * 200_000}}}}}", f"args: [--tokenizer-mode, {'x' * 200_000}]"):
        assert "120000 bytes" in refused(tmp_path, text).details[0]


def test_no_mapping_is_suggested_that_would_be_refused_next(tmp_path: Path) -> None:
    assert refused(tmp_path, "args: [--seed, '--5']").hint == "vmtool spec explain spec.vllm.args"
    assert "write --enforce-eager" in refused(tmp_path, "args: ['--enforce-eager ']").details[0]


@pytest.mark.parametrize("text", ["args: []", "args: {seed: 1}", "args: [--seed, '1']", "args: --seed 1"])
def test_a_spec_is_kept_and_read_again_without_a_warning(tmp_path: Path, text: str) -> None:
    body = read(tmp_path, text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Body.model_validate_json(body.model_dump_json()) == body
