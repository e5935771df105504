"""An endpoint as its users have it: TLS, tokens, limits and metrics through the published ports of a real container."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.conftest import MakeSpec
from tests.integration.machine import Vmtool, footprint, until
from tests.integration.serving.certificates import issue
from tests.integration.serving.prometheus import promtool, reading
from vmtool.instance.instance import Paths
from vmtool.instance.promise import is_stopped
from vmtool.tls.authority import certificate_path

PORT, METRICS, NAME = 18631, 18632, "published"
QUESTION: dict[str, Any] = {"model": "canary", "messages": [{"role": "user", "content": "Why?"}]}


@dataclass
class Endpoint:
    """It, as who is at home elsewhere sees it."""

    vmtool: Vmtool
    directory: Path
    ca: Path

    @property
    def key(self) -> str:
        return (self.directory / "secret" / "api-key").read_text().strip()

    def client(self, key: str, **more: Any) -> openai.OpenAI:
        secure = openai.DefaultHttpxClient(verify=ssl.create_default_context(cafile=str(self.ca)))
        return openai.OpenAI(api_key=key, base_url=f"https://localhost:{PORT}/v1", http_client=secure,
                             **{"max_retries": 0} | more)

    def curl(self, *words: str, port: int = PORT, path: str = "/health") -> subprocess.CompletedProcess[str]:
        return subprocess.run(["curl", "-sS", "-m", "10", *words, f"https://localhost:{port}{path}"], text=True,
                              capture_output=True, timeout=30, check=False)

    @property
    def health(self) -> str:
        """What it says to everybody."""
        return self.curl("--cacert", str(self.ca)).stdout

    def serial(self) -> str:
        """Of the certificate that a new connection sees."""
        context = ssl.create_default_context(cafile=str(self.ca))
        with socket.create_connection(("127.0.0.1", PORT), 10) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as connection:
            return str((connection.getpeercert() or {})["serialNumber"])


@pytest.fixture(scope="module")
def endpoint(vmtool: Vmtool, make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Afterwards the machine is as before."""
    before = footprint()
    vmtool("run", make_spec(NAME, PORT, tls={"source": "ca", "names": ["llm.lab.example"]},
                            metrics={"publish": str(METRICS)}))
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.write_text(vmtool("ca", "export").out)
    yield Endpoint(vmtool, vmtool.state / "instances" / NAME, ca)
    vmtool("rm", "--yes", NAME)
    assert footprint() == before


class Stream(threading.Thread):
    """A long answer, fifty pieces a second."""

    def __init__(self, client: openai.OpenAI, pieces: int) -> None:
        super().__init__()
        self.asked, self.pieces, self.error, self.began = pieces, 0, "", threading.Event()
        self.client = client
        self.start()
        assert self.began.wait(120)

    def run(self) -> None:
        try:
            for _ in self.client.chat.completions.create(**QUESTION, stream=True, max_tokens=self.asked):
                self.pieces += 1
                self.began.set()
        except Exception as error:  # of whatever kind: the test looks at it
            self.error = f"{type(error).__name__}: {error}"
        self.began.set()

    def result(self) -> tuple[int, str]:
        self.join(300)
        return self.pieces, self.error


def test_who_has_the_ca_is_served_by_each_name_and_nobody_else_is(endpoint: Endpoint) -> None:
    trusting = ("--cacert", str(endpoint.ca))
    assert endpoint.curl(*trusting).stdout == '{"status": "ok"}'
    other = ("--connect-to", f"::127.0.0.1:{PORT}")
    done = subprocess.run(["curl", "-sS", "-m", "10", *trusting, *other, "https://llm.lab.example/health"], text=True,
                          capture_output=True, timeout=30, check=False)
    assert done.stdout == '{"status": "ok"}', done.stderr
    assert endpoint.curl().returncode == 60, "a certificate that nobody vouches for is taken"
    assert endpoint.curl(*trusting, "--tls-max", "1.2").returncode == 35
    plain = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    plain.request("GET", "/health")
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.getresponse()
    assert endpoint.vmtool("chat", NAME, "Why?").out


def test_a_token_has_its_limits_and_their_headers_and_its_last_use(endpoint: Endpoint) -> None:
    token = endpoint.vmtool("token", "add", "ci", NAME, "--requests", "2", "--tokens", "5000", "--streams", "1").out
    with endpoint.client(token.strip()) as client:
        answer = client.chat.completions.with_raw_response.create(**QUESTION)
        assert answer.parse().choices[0].message.content
        shown = {name: answer.headers[f"x-ratelimit-{name}"] for name in (
            "limit-requests", "remaining-requests", "limit-tokens")}
        assert shown == {"limit-requests": "2", "remaining-requests": "1", "limit-tokens": "5000"}
        assert 0 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 5000
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
        client.chat.completions.create(**QUESTION)
        with pytest.raises(openai.RateLimitError) as error:
            client.chat.completions.create(**QUESTION)
        assert 0 < int(error.value.response.headers["retry-after"]) <= 30
        assert error.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    [row] = [row for row in endpoint.vmtool("token", "list", NAME, "--json").json["tokens"] if row["name"] == "ci"]
    assert row["asked"] == 3
    assert row["last_use"] >= row["added"]
    endpoint.vmtool("token", "revoke", "ci", NAME)
    with endpoint.client(token.strip()) as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_revoked_token_s_stream_ends_at_once_and_a_new_certificate_ends_none(endpoint: Endpoint) -> None:
    token = endpoint.vmtool("token", "add", "brief", NAME).out.strip()
    with endpoint.client(token) as revoked, endpoint.client(endpoint.key) as kept:
        ends, goes_on = Stream(revoked, 5000), Stream(kept, 200)
        before = endpoint.serial()
        endpoint.vmtool("token", "revoke", "brief", NAME)
        endpoint.vmtool("ca", "renew", NAME, "--force")
        pieces, error = ends.result()
        assert (pieces < 5000, bool(error)) == (True, True)
        assert goes_on.result() == (200, "")
        assert endpoint.serial() != before
        assert kept.models.list().data
    assert endpoint.vmtool("chat", NAME, "Why?").out


def test_prometheus_scrapes_the_published_port(endpoint: Endpoint, programs: Path, tmp_path: Path) -> None:
    assert endpoint.vmtool("chat", NAME, "Why?").out
    scraper = endpoint.directory / "secret" / "metrics-key"
    assert endpoint.curl("--cacert", str(endpoint.ca), port=METRICS, path="/metrics").stdout.startswith('{"error"')
    (tmp_path / "header").write_text(f"Authorization: Bearer {scraper.read_text()}")
    text = endpoint.curl("--cacert", str(endpoint.ca), "-H", f"@{tmp_path}/header", port=METRICS, path="/metrics")
    assert promtool(programs, "check", "metrics", text=text.stdout.encode()) == ""
    assert "vmtool_engine_up 1.0" in text.stdout
    with reading(programs, tmp_path, f"localhost:{METRICS}", scheme="https", tls_config={"ca_file": str(endpoint.ca)},
                 authorization={"credentials_file": str(scraper)}) as ask:
        until(lambda: ask("vmtool_engine_up") == ["1"], "Prometheus has not read it")
        [asked] = ask('vmtool_requests_total{token="key",status="200",route="POST /v1/chat/completions"}') or ["0"]
        assert int(asked) > 0


def test_stop_lets_answers_end_and_refuses_what_is_new(endpoint: Endpoint) -> None:
    """A stream comes to its end, or is cut off after --drain. It stays stopped for the next test."""
    with endpoint.client(endpoint.key) as client:
        whole, cut = Stream(client, 100), Stream(client, 5000)
        with subprocess.Popen(endpoint.vmtool.argv("stop", NAME, "--drain", "20"), stderr=subprocess.PIPE,
                              text=True) as stop:
            until(lambda: endpoint.health == '{"status": "stopping"}', "it takes requests")
            with pytest.raises(openai.InternalServerError) as error:
                client.models.list()
            _, err = stop.communicate(timeout=120)
        assert (error.value.status_code, error.value.response.headers["retry-after"]) == (503, "30")
        assert (whole.result(), bool(cut.result()[1])) == ((100, ""), True)
        assert (stop.returncode, "1 answers are cut off" in err) == (0, True), err
    events = [json.loads(line) for line in endpoint.vmtool("events", NAME, "--json").out.splitlines()]
    assert [event["answers"] for event in events if event["event"] == "cut-off"] == [1]


@pytest.mark.slow
def test_a_stop_that_is_given_up_leaves_it_as_it_was(endpoint: Endpoint) -> None:
    """By Ctrl-C, the end of a terminal, or a kill: within half a minute it takes requests again."""
    endpoint.vmtool("start", NAME)
    with endpoint.client(endpoint.key) as client:
        for number in (signal.SIGTERM, signal.SIGKILL):
            stream = Stream(client, 300)
            with subprocess.Popen(endpoint.vmtool.argv("stop", NAME), stderr=subprocess.DEVNULL) as stop:
                until(lambda: endpoint.health == '{"status": "stopping"}', "it takes requests")
                stop.send_signal(number)
                stop.wait(20)
            assert not is_stopped(Paths(endpoint.directory)), "the mark of a killed one counts for nothing"
            assert stream.result() == (300, "")
            until(lambda: endpoint.health == '{"status": "ok"}', "it stays closed")
            assert client.models.list().data


@pytest.mark.slow
def test_rm_lets_answers_end_too(vmtool: Vmtool, make_spec: MakeSpec) -> None:
    before = footprint()
    vmtool("run", make_spec("removed", PORT + 2))
    key = (vmtool.state / "instances" / "removed" / "secret" / "api-key").read_text().strip()
    with openai.OpenAI(api_key=key, base_url=f"http://127.0.0.1:{PORT + 2}/v1", max_retries=0) as client:
        stream = Stream(client, 100)
        vmtool("rm", "--yes", "removed")
        assert stream.result() == (100, "")
        with pytest.raises(openai.APIConnectionError):
            client.models.list()
    assert footprint() == before


@pytest.mark.slow
def test_files_of_one_s_own_and_clients_with_a_certificate(vmtool: Vmtool, make_spec: MakeSpec, tmp_path: Path) -> None:
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    pair, mine = issue(own, "localhost", "127.0.0.1"), issue(theirs, "me", client=True)
    stranger = issue(tmp_path / "strangers", "me", client=True)
    for name, text in (("c.pem", pair.certificate), ("k.pem", pair.key), ("mine.pem", mine.certificate + mine.key),
                       ("stranger.pem", stranger.certificate + stranger.key)):
        (tmp_path / name).write_bytes(text)
    before = footprint()
    vmtool("run", make_spec("mutual", PORT + 3, tls={
        "source": "files", "certificate": str(tmp_path / "c.pem"), "key": str(tmp_path / "k.pem"),
        "clients": str(certificate_path(theirs))}))
    try:
        key = (vmtool.state / "instances" / "mutual" / "secret" / "api-key").read_text().strip()

        def client(*more: str) -> openai.OpenAI:
            context = ssl.create_default_context(cafile=str(certificate_path(own)))
            for name in more:
                context.load_cert_chain(tmp_path / name)
            return openai.OpenAI(api_key=key, base_url=f"https://localhost:{PORT + 3}/v1", max_retries=0,
                                 http_client=openai.DefaultHttpxClient(verify=context))

        with client("mine.pem") as known:
            assert known.chat.completions.create(**QUESTION).choices
            for words in ((), ("stranger.pem",)):
                with client(*words) as unknown, pytest.raises(openai.APIConnectionError):
                    unknown.models.list()
            stream, new = Stream(known, 150), issue(own, "localhost", "127.0.0.1")
            (tmp_path / "c.pem").write_bytes(new.certificate)
            (tmp_path / "k.pem").write_bytes(new.key)
            assert "mutual: renewed" in vmtool("ca", "renew", "mutual").err
            assert stream.result() == (150, "")
            assert known.models.list().data
        assert vmtool("chat", "mutual", "Why?").out
        assert vmtool("status", "mutual", "--json").json["claims"]
        vmtool("upgrade", "mutual", "--drain", "1")
        with client("mine.pem") as known:
            assert known.models.list().data
    finally:
        vmtool("rm", "--yes", "mutual")
    assert footprint() == before
