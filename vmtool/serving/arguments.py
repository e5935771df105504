"""The entrypoint's command line, and which arguments for vLLM it refuses."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# What would open another way in than the front, or take back what the entrypoint itself decides. `--config` can
# set any of the others.
OWN = ("--model", "--served-model-name", "--uds")
ANOTHER_WAY_IN = ("--host", "--port", "--api-key", "--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs",
                  "--ssl-cert-reqs", "--ssl-ciphers", "--enable-ssl-refresh", "--middleware", "--root-path",
                  "--config", "--headless", "--grpc", "--api-server-count")
# What can serve, and what it is called to a person.
ENGINES = {"vllm": "vLLM", "transformers": "transformers"}
REMOTE_CODE = "--trust-remote-code"


@dataclass(frozen=True)
class Arguments:
    """What to serve and to whom.

    Args:
        model: directory of the model.
        name: what clients call it.
        listen: address and port of the front.
        key_file: file with the API keys, one per line.
        allow_from: networks that peers may come from; empty for any.
        grace: seconds that vLLM gets to end after SIGTERM.
        vllm: further arguments for vLLM, checked.
        engine: "vllm", or "transformers" for the small server in its place.
    """

    model: Path
    name: str
    listen: tuple[str, int]
    key_file: Path
    allow_from: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    grace: float
    vllm: tuple[str, ...]
    engine: str = "vllm"

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
    parser = argparse.ArgumentParser(prog="vmtool.serving.entrypoint", allow_abbrev=False,
                                     usage="%(prog)s OPTIONS [-- VLLM_ARGUMENTS]")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--served-model-name", required=True, metavar="NAME")
    parser.add_argument("--listen", type=_address, required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--api-key-file", type=Path, required=True, metavar="FILE")
    parser.add_argument("--allow-from", type=ipaddress.ip_network, action="append", default=[], metavar="CIDR")
    parser.add_argument("--grace", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--allow-remote-code", action="store_true", help="let vLLM run code out of the model")
    parser.add_argument("--engine", choices=ENGINES, default="vllm", help="who serves the model")
    known = parser.parse_args(own)
    if extra and known.engine != "vllm":
        parser.error(f"{extra[0]}: arguments for vLLM, but {known.engine} serves")
    if problem := refusal(extra, remote_code=known.allow_remote_code):
        parser.error(problem)
    return Arguments(known.model, known.served_model_name, known.listen, known.api_key_file,
                     tuple(known.allow_from), known.grace, tuple(extra), known.engine)


def refusal(extra: Sequence[str], *, remote_code: bool = False) -> str:
    """Why these arguments for vLLM are refused; empty when they are not.

    vLLM's parser takes underscores for dashes and any unambiguous beginning of a name, so `--ho`, `--api_key` and
    `--ssl_keyfile=x` must be recognised as well.
    """
    for word in extra:
        name = word.partition("=")[0].partition(".")[0].replace("_", "-").lower()
        if not name.startswith("--"):
            continue
        if name == "--":
            return "a second -- is not understood"
        if _means(name, OWN):
            return f"{word}: is set by the entrypoint's own option of that purpose"
        if _means(name, ANOTHER_WAY_IN) or name.startswith("--ssl"):
            return f"{word}: would open another way in than the front"
        if _means(name, (REMOTE_CODE,)) and not remote_code:
            return f"{word}: runs code out of the model; allow it with --allow-remote-code before the --"
    return ""


def engine_command(arguments: Arguments, python: str, socket: Path) -> tuple[str, ...]:
    """The engine's own command line: it listens on the Unix socket only.

    By module, since the `vllm` program asks for its version under a name the CPU build does not have.
    """
    shared = ("--model", str(arguments.model), "--served-model-name", arguments.name, "--uds", str(socket))
    if arguments.engine == "transformers":
        return (python, "-P", "-m", "vmtool.serving.transformers_engine", *shared)
    return (python, "-P", "-m", "vllm.entrypoints.openai.api_server", *shared,
            "--disable-uvicorn-access-log", "--disable-fastapi-docs", *arguments.vllm)


def _means(name: str, options: Sequence[str]) -> bool:
    return any(option.startswith(name) for option in options)


def _split(argv: Sequence[str]) -> tuple[list[str], str, list[str]]:
    words = list(argv)
    if "--" not in words:
        return words, "", []
    at = words.index("--")
    return words[:at], "--", words[at + 1:]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host.strip("[]"))
    if not 0 < int(port) < 65536:
        raise ValueError(f"{port} is no port")
    return str(address), int(port)
