"""The entrypoint's command line, and which arguments for vLLM it refuses."""

from __future__ import annotations

import argparse
import base64
import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmtool.serving import hardening
from vmtool.serving.encrypted.vllm_arguments import words_problem
from vmtool.serving.gateway import network
from vmtool.serving.kbs.broker_source import BrokerSource
from vmtool.serving.kbs.resource_name import resource_name
from vmtool.serving.restarts import POLICIES, USUAL, RestartPolicy
from vmtool.serving.vllm_arguments import refused_by_name
from vmtool.serving.vllm_options import GRANTED, MODEL_CODE, POWERS
from vmtool.serving.vllm_words import from_words

# What can serve, and what it is called to a person.
ENGINES = {"vllm": "vLLM", "transformers": "transformers"}


@dataclass(frozen=True)
class Arguments:
    """What to serve and to whom.

    Args:
        model: directory of the model.
        name: what clients call it.
        listen: address and port of the front.
        key_file: file with the API keys, one per line.
        allow_from: networks that peers may come from; empty for any.
        manage: address and port for the host, or None; manage_from: networks that the host may come from.
        metrics_from: further networks, for the metrics alone; metric_names: further names that they have.
        grace: seconds that vLLM gets to end after SIGTERM.
        vllm: further arguments for vLLM, checked.
        engine: "vllm", or "transformers" for the small server in its place.
        restart: when one that died is started again.
        hardening: the profile that the container must have; empty for none.
        signer: of an encrypted model: the public key of its owner, in base64, and the owner's name.
        manifest: of an encrypted model: SHA-256 of its manifest, in hexadecimal; empty for any of the owner's.
        key_source: of an encrypted model: the broker of its key; None when the key is handed over.
    """

    model: Path
    name: str
    listen: tuple[str, int]
    key_file: Path
    allow_from: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    grace: float
    vllm: tuple[str, ...]
    engine: str = "vllm"
    restart: RestartPolicy = USUAL
    manage: tuple[str, int] | None = None
    manage_from: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    metrics_from: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    metric_names: tuple[str, ...] = ()
    hardening: str = ""
    signer: tuple[str, str] | None = None
    key_source: BrokerSource | None = None
    manifest: str = ""

    @property
    def server(self) -> str:
        """The engine's name, for a person."""
        return ENGINES[self.engine]


def parse(argv: Sequence[str]) -> Arguments:
    """Read the command line; everything after `--` is for vLLM.

    Raises:
        SystemExit: status 2 after a line on stderr, as argparse does.
    """
    own, _, extra = _split(argv)
    parser = _parser()
    known = parser.parse_args(own)
    if mistake := _mistake(known, extra):
        parser.error(mistake)
    return Arguments(known.model, known.served_model_name, known.listen, known.api_key_file,
                     tuple(known.allow_from), known.grace, tuple(extra), known.engine,
                     RestartPolicy(known.restart, known.restart_backoff, known.restart_limit), known.manage,
                     tuple(known.manage_from), tuple(known.metrics_from), tuple(known.metric_names),
                     known.hardening, known.model_signer, _source(known), known.model_manifest or "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmtool.serving.entrypoint", allow_abbrev=False,
                                     usage="%(prog)s OPTIONS [-- VLLM_ARGUMENTS]")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--served-model-name", required=True, metavar="NAME")
    parser.add_argument("--listen", type=_address, required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--api-key-file", type=Path, required=True, metavar="FILE")
    parser.add_argument("--allow-from", type=network, action="append", default=[], metavar="CIDR")
    parser.add_argument("--manage", type=_address, metavar="ADDRESS:PORT", help="where the host changes who may ask")
    parser.add_argument("--manage-from", type=network, action="append", default=[], metavar="CIDR")
    parser.add_argument("--metrics-from", type=ipaddress.ip_network, action="append", default=[], metavar="CIDR")
    parser.add_argument("--metric-names", choices=("tensafe",), action="append", default=[])
    parser.add_argument("--grace", type=_seconds, default=20.0, metavar="SECONDS")
    parser.add_argument("--allow", choices=(*GRANTED, MODEL_CODE), action="append", default=[],
                        help="what vLLM's arguments may do beyond serving")
    parser.add_argument("--engine", choices=ENGINES, default="vllm", help="who serves the model")
    parser.add_argument("--hardening", choices=hardening.NAMES, default="", help="what the container may not do")
    parser.add_argument("--model-signer", type=_signer, metavar="KEY:NAME", help="who signed the encrypted model")
    parser.add_argument("--model-manifest", type=_digest, metavar="sha256:HEX", help="which of the "
                        "signer's models it is")
    parser.add_argument("--model-key-resource", type=resource_name, metavar="NAME", help="its key's name at a broker")
    parser.add_argument("--model-key-broker", default="", metavar="URL", help="the broker's address")
    parser.add_argument("--model-key-ca", type=_base64, default="", metavar="BASE64", help="PEM of the broker's CAs")
    parser.add_argument("--model-key-init-data", type=_base64, default="", metavar="BASE64", help="init data that "
                        "the guest was made with, for the broker")
    parser.add_argument("--allow-unconfidential", action="store_true", help="ask the broker without any proof")
    parser.add_argument("--restart", choices=POLICIES, default=USUAL.policy, help="when a dead server is started again")
    parser.add_argument("--restart-backoff", type=_seconds, default=USUAL.backoff, metavar="SECONDS")
    parser.add_argument("--restart-limit", type=_count, default=USUAL.limit, metavar="NUMBER")
    return parser


def _mistake(known: argparse.Namespace, extra: Sequence[str]) -> str:
    """What is wrong with arguments that are right one by one; empty when nothing is."""
    if extra and known.engine != "vllm":
        return f"{extra[0]}: arguments for vLLM, but {known.engine} serves"
    if known.manage and not known.manage_from:
        return "--manage needs --manage-from: nobody else than the host may come"
    if known.model_signer and not known.hardening:
        return "--model-signer needs --hardening: an encrypted model is served from a hardened container only"
    for option in ("model_key_resource", "model_manifest"):
        if getattr(known, option) and not known.model_signer:
            return f"--{option.replace('_', '-')} needs --model-signer: whose model it is"
    return refusal(extra, known.allow) or words_problem(extra, encrypted=bool(known.model_signer),
                                                        engine=known.engine)


def _source(known: argparse.Namespace) -> BrokerSource | None:
    return known.model_key_resource and BrokerSource(known.model_key_resource, known.model_key_broker,
                                                     known.model_key_ca, known.allow_unconfidential,
                                                     known.model_key_init_data)


def refusal(extra: Sequence[str], allowed: Collection[str] = ()) -> str:
    """Why these arguments for vLLM are refused; empty when they are not.

    What is given here comes from a spec that was checked. It is looked at once more, since an image may be started by
    other means: an allow-list, in which only the options that the table knows as harmless need nobody's word.
    """
    arguments, problems = from_words(extra)
    for place, text in problems:
        return f"{extra[int(place[0])].partition('=')[0]}: {text}"
    for argument in arguments:
        if text := refused_by_name(argument.option):
            return text
        for power in argument.option.powers(argument.value):
            if power not in allowed:
                return f"--{argument.option.name} {POWERS[power]}: allow it with --allow {power} before the --"
    return ""


def engine_command(arguments: Arguments, python: str, socket: Path, model: Path | None = None) -> tuple[str, ...]:
    """The engine's own command line: it listens on the Unix socket only.

    Args:
        model: the directory that it reads, where that is another than the one that was asked for.

    By module, since the `vllm` program asks for its version under a name the CPU build does not have.
    """
    shared = ("--model", str(model or arguments.model), "--served-model-name", arguments.name, "--uds", str(socket))
    if arguments.engine == "transformers":
        return (python, "-P", "-m", "vmtool.serving.transformers_engine", *shared)
    return (python, "-P", "-m", "vllm.entrypoints.openai.api_server", *shared,
            "--disable-uvicorn-access-log", "--disable-fastapi-docs", *arguments.vllm)


def _split(argv: Sequence[str]) -> tuple[list[str], str, list[str]]:
    words = list(argv)
    if "--" not in words:
        return words, "", []
    at = words.index("--")
    return words[:at], "--", words[at + 1:]


def _base64(text: str) -> str:
    return base64.b64decode(text, validate=True).decode("ascii")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host.strip("[]"))
    if not 0 < int(port) < 65536:
        raise ValueError(f"{port} is no port")
    return str(address), int(port)


def _seconds(text: str) -> float:
    if not 0 <= float(text) <= 3600:  # nan is not, either
        raise ValueError(f"{text} is no time")
    return float(text)


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(f"{text} is no number of tries")
    return int(text)


def _digest(text: str) -> str:
    if not re.fullmatch("sha256:[0-9a-f]{64}", text):
        raise ValueError("no sha256: with 64 hexadecimal digits")
    return text.removeprefix("sha256:")


def _signer(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"([A-Za-z0-9+/]{43}=):([A-Za-z0-9._:@/+=-]{0,128})", text)
    if not found:
        raise ValueError("no public key in base64, a colon, and its name")
    return found[1], found[2]
