"""`vmtool connect` before a real front: with evidence of a processor that only tests trust, without a TEE, and before
servers that want to be taken for another."""

from __future__ import annotations

import asyncio
import gzip
import json
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import openai
import pytest

from tests.integration.connect.running import (
    SNP,
    UNCONFIDENTIAL,
    VMTOOL,
    Local,
    argv,
    attested,
    behave,
    connected,
    hostile,
    named,
    refused,
    renew,
    until,
    written,
)
from tests.integration.serving.processes import Serving, everything, parse, serving
from tests.integration.serving.run_front import KEY
from vmtool.attest.request import Collateral, Roots
from vmtool.attest.server.errors import NotVerified
from vmtool.attest.server.place import Place
from vmtool.connect.policy import read_policy
from vmtool.connect.serve import Checker
from vmtool.connect.verify import Trusted
from vmtool.host.http import unknown_server
from vmtool.tls.authority import certificate_path

CHAT = "/v1/chat/completions"
EVIDENCE = f"/.well-known/vmtool/evidence?nonce={'0a' * 32}"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with attested(tmp_path_factory.mktemp("attested"), evidence=10_000, evidence_per_address=10_000) as one:
        yield one


@pytest.fixture(scope="module")
def local(front: Serving) -> Iterator[Local]:
    with connected(front.directory, url(front), SNP) as one:
        yield one


@pytest.fixture(autouse=True)
def honest(front: Serving) -> None:
    behave(front.directory, "honest")


def url(one: Serving) -> str:
    return f"http{'s' if one.secure else ''}://127.0.0.1:{one.port}"


def client(local: Local, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=local.url, max_retries=0)


def ask(local: Local, **asked: object) -> tuple[int, str]:
    """Status and message of a chat through it."""
    status, body = local.serving.ask("POST", CHAT, f"Authorization: Bearer {KEY}\r\n", json.dumps(asked).encode())
    return status, json.loads(body).get("error", {}).get("message", "") if body else ""


def test_report_verified_key_pinned_chat_through(front: Serving) -> None:
    with connected(front.directory, url(front), SNP) as local:
        assert (local.said["confidential"], local.said["evidence_kind"]) == (True, "snp")
        proven = {claim["id"] for claim in local.said["evidence"][0]["claims"]  # type: ignore[index]
                  if claim["verdict"] == "proven"}
        assert {"snp.chain", "snp.signature", "snp.freshness", "snp.measurement"} <= proven
        one = client(local)
        assert [model.id for model in one.models.list().data] == ["canary", "org/model"]
        answer = one.chat.completions.create(model="canary", messages=[{"role": "user", "content": "hello"}])
        assert str(answer.choices[0].message.content).startswith("word word")
        with pytest.raises(openai.AuthenticationError):
            client(local, "wrong" * 8).models.list()
        stream = local.serving.say(front.chat(stream=50).replace(b"Host: x", b"Host: localhost\r\nConnection: close"))
        assert stream.count(b'"number"') == 50 and b"[DONE]" in stream


def test_its_evidence_is_kept_and_verified_by_the_command_that_is_shown(front: Serving) -> None:
    file = front.directory / "evidence.json"
    asked = subprocess.run((VMTOOL, "attest", "evidence", url(front), "-o", str(file)), capture_output=True, text=True,
                           timeout=60, check=True)
    [command] = [line.removeprefix("verify: vmtool ") for line in asked.stdout.splitlines() if "verify: " in line]
    checked = subprocess.run((VMTOOL, *shlex.split(command), "--roots", str(front.directory / "roots")),
                             capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "snp.freshness    proven" in checked.stdout
    behave(front.directory, "none")
    none = subprocess.run((VMTOOL, "attest", "evidence", url(front), "-o", str(file)), capture_output=True, text=True,
                          timeout=60, check=False)
    assert (none.returncode, "NOT CONFIDENTIAL" in none.stderr, json.loads(file.read_text())["kind"]) == (
        4, True, "none")


@pytest.mark.slow
def test_a_key_of_a_file_takes_the_place_of_the_clients(front: Serving, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{KEY}\n")
    with connected(front.directory, url(front), SNP, "--token-file", str(tmp_path / "token")) as local:
        assert client(local, "any" * 8).models.list().data
        environment = Path(f"/proc/{local.process.pid}/environ").read_bytes()
        assert KEY.encode() not in environment + Path(f"/proc/{local.process.pid}/cmdline").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("behaviour", "reason"), [
    ("none", "runs in no TEE, and the policy requires snp"), ("replay", "snp.binding"), ("foreign", "snp.binding"),
    ("debug", "snp.debug"), ("guest", "snp.measurement"), ("fail", "status 503")])
def test_evidence_that_does_not_prove_it_ends_with_4(front: Serving, behaviour: str, reason: str) -> None:
    behave(front.directory, "replay")
    front.ask("GET", EVIDENCE, "")  # now there is one to be replayed
    behave(front.directory, behaviour)
    status, said = refused(front.directory, url(front), SNP)
    assert (status, reason in said) == (4, True), said


@pytest.mark.slow
def test_a_guest_that_is_another_later_is_cut_off_and_a_good_one_taken_again(front: Serving) -> None:
    with connected(front.directory, url(front), f"{SNP}max_age: 10\n") as local:
        with local.serving.connect() as connection:
            connection.sendall(named(front.chat(stream=2000, gap=0.05)))
            assert b"200 OK" in connection.recv(1 << 16)
            behave(front.directory, "guest")
            rest = everything(connection)  # it ends long before the stream would
            assert b"[DONE]" not in rest
        status, message = ask(local)
        assert (status, "snp.measurement" in message) == (502, True), message
        behave(front.directory, "honest")
        until(lambda: ask(local)[0] == 200, "it is not taken again")
    assert "nothing is forwarded: " in local.errors.read_text()
    assert "verified again: AMD SEV-SNP" in local.errors.read_text()


@pytest.mark.slow
def test_another_key_stops_it_until_that_one_is_verified_and_no_stream_ends(front: Serving) -> None:
    with connected(front.directory, url(front), SNP) as local, local.serving.connect() as connection:
        connection.sendall(named(front.chat(stream=100, gap=0.05)))
        assert b"200 OK" in connection.recv(1 << 16)
        renew(front)
        assert ask(local)[0] == 502
        until(lambda: ask(local)[0] == 200, "the new key is not verified")
        data = b""
        while b"[DONE]" not in data:
            piece = connection.recv(1 << 16)
            assert piece, "what was verified was cut off"
            data += piece
    assert "the server shows another TLS key" in local.errors.read_text()


@pytest.mark.slow
def test_another_key_without_good_evidence_stays_refused(front: Serving) -> None:
    with connected(front.directory, url(front), SNP) as local:
        behave(front.directory, "foreign")
        renew(front)
        begun = front.events().count("begun")
        for _ in range(3):
            status, message = ask(local)
            assert status == 502, message
        until(lambda: "snp.binding" in ask(local)[1], "it does not say why")
        assert front.events().count("begun") == begun


@pytest.mark.slow
def test_a_server_that_closes_in_the_middle_of_a_stream_does_not_look_whole(front: Serving) -> None:
    with connected(front.directory, url(front), SNP) as local:
        broken = {"stream": 3, "break": 1}
        answer = local.serving.say(front.chat(**broken))
        assert b'"number": 2' in answer and not answer.endswith(b"0\r\n\r\n")
        with pytest.raises(openai.APIError):
            for _ in client(local).chat.completions.create(model="canary", messages=[], stream=True,
                                                           extra_body=broken):
                pass


@pytest.mark.slow
@pytest.mark.parametrize(("line", "headers", "status"), [
    ("GET http://127.0.0.1/v1/models HTTP/1.1", "", 400), ("CONNECT 127.0.0.1:80 HTTP/1.1", "", 400),
    ("GET /v1/models HTTP/1.1", "Upgrade: websocket\r\nConnection: upgrade\r\n", 400),
    ("GET /metrics HTTP/1.1", "", 404), ("GET /v1/../metrics HTTP/1.1", "", 404), (f"GET {EVIDENCE} HTTP/1.1", "", 404),
    ("PUT /v1/models HTTP/1.1", "", 405), ("OPTIONS * HTTP/1.1", "", 400),
    ("POST /v1/chat/completions HTTP/1.1", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
    ("POST /v1/chat/completions HTTP/1.1", "Content-Length: 2\r\nContent-Length: 3\r\n", 400),
    ("POST /v1/chat/completions HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n", 400),
    ("GET /v1/models HTTP/1.1", "X-Api-Key: two\r\n", 400),
    ("GET /v1/models HTTP/1.1", "Origin: https://evil\r\n", 403),
    ("GET /v1/models HTTP/1.1", "Origin: null\r\n", 403), ("GET /v1/models HTTP/1.1", "Host: evil\r\n", 403),
    ("GET /v1/models HTTP/1.1", "Accept: \x01\r\n", 400),
])
def test_a_client_that_asks_otherwise_is_refused_here(front: Serving, local: Local, line: str, headers: str, status: int
                                                       ) -> None:
    begun, body = front.events(), "0\r\n\r\n" if line.startswith("POST") else ""
    host = "" if "Host:" in headers else "Host: 127.0.0.1\r\n"
    head = f"{line}\r\n{host}Authorization: Bearer {KEY}\r\n{headers}Connection: close\r\n\r\n"
    answer = local.serving.say(head + body)
    assert parse(answer)[0] == status, answer
    assert front.events() == begun


# What is no evidence -> what it begins with.
def http(*parts: bytes, kind: str = "application/json", more: str = "") -> list[bytes]:
    return [f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n".encode(), *parts]


HOSTILE: dict[str, tuple[Sequence[bytes], str]] = {
    "HTML": (http(b"<!DOCTYPE html>", kind="text/html"), "no JSON"),
    "a redirect": ([b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"], "redirect"),
    "a gzip bomb": (http(gzip.compress(bytes(1 << 24)), more="Content-Encoding: gzip\r\n"), "compressed"),
    "huge JSON": (http(b'{"version": 1, "note": "', b"x" * (2 << 20), b'"}'), "more than 1024 KiB"),
    "a huge length": ([b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"], "breaks off"),
    "deep JSON": (http(b"[" * 500_000), "refused"),
    "endless headers": ([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 8000 + b"\r\n"] * 100], "breaks off"),
    "no HTTP": ([b"SSH-2.0-OpenSSH_9.2\r\n"], "breaks off"),
    "not found": ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "status 404"),
    "nothing": ([], "breaks off"),
    "an answer of 100": ([b"HTTP/1.1 100 Continue\r\n\r\n"], "breaks off"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_evidence_is_refused(tmp_path: Path, name: str) -> None:
    pieces, reason = HOSTILE[name]
    wanted = read_policy(written(tmp_path, UNCONFIDENTIAL))
    with hostile(tmp_path, lambda head: pieces) as there, pytest.raises(NotVerified) as refusal:
        place = Place("127.0.0.1", int(there.rpartition(":")[2]), unknown_server())
        asyncio.run(Checker(place, wanted, lambda: Trusted(Roots({}), Collateral()))())
    assert reason in refusal.value.message
    assert refusal.value.code == 4


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [http(*[b" "] * 1000), [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 1000]])
def test_evidence_that_comes_slowly_and_endlessly_is_not_waited_for(tmp_path: Path, pieces: list[bytes]) -> None:
    with hostile(tmp_path, lambda head: pieces, gap=0.3) as there:
        status, said = refused(tmp_path, there, UNCONFIDENTIAL)
        assert (status, "within 30 s" in said) == (4, True), said


@pytest.mark.slow
def test_evidence_of_another_server_behind_a_key_of_its_own_is_refused(front: Serving, tmp_path: Path) -> None:
    """A man in the middle passes the question on: what comes back is genuine, and of another key."""
    def pass_on(head: bytes) -> Sequence[bytes]:
        return [front.say(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))]

    with hostile(tmp_path, pass_on) as there:
        for policy in (SNP.replace("roots: roots", f"roots: {front.directory}/roots"), UNCONFIDENTIAL):
            status, said = refused(tmp_path, there, policy)
            assert (status, "another TLS key" in said) == (4, True), said


@pytest.mark.slow
def test_what_cannot_be_reached_is_no_verdict(tmp_path: Path) -> None:
    status, said = refused(tmp_path, "https://127.0.0.1:1", UNCONFIDENTIAL)
    assert (status, "cannot be reached" in said) == (1, True), said


@pytest.mark.slow
def test_a_ca_of_the_policy_must_have_signed_the_certificate(front: Serving, tmp_path: Path) -> None:
    (front.directory / "ca.pem").write_bytes(certificate_path(front.directory / "ca").read_bytes())
    behave(front.directory, "none")
    done = subprocess.run(argv(front.directory, url(front), f"{UNCONFIDENTIAL}ca: ca.pem\n", "--check"), timeout=60,
                          capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout)["confidential"], "its certificate says" in done.stderr) == (False, False)
    with hostile(tmp_path, lambda head: []) as there:
        status, said = refused(front.directory, there, f"{UNCONFIDENTIAL}ca: ca.pem\n")
        assert (status, "its certificate is refused" in said) == (4, True), said


@pytest.mark.slow
def test_without_tee_and_ca_the_first_key_is_the_only_one(front: Serving) -> None:
    behave(front.directory, "none")
    with connected(front.directory, url(front), UNCONFIDENTIAL) as local, local.serving.connect() as connection:
        assert ask(local)[0] == 200
        # A connection that is kept has the verified key: with an answer on it the next question needs a new one.
        connection.sendall(named(front.chat(stream=2000, gap=0.05)))
        assert b"200 OK" in connection.recv(1 << 16)
        renew(front)
        until(lambda: "nothing vouches for it" in ask(local)[1], "it takes the other key")


@pytest.mark.slow
def test_without_tls_only_loopback_and_only_unconfidential(tmp_path: Path) -> None:
    with serving(tmp_path) as one:
        assert refused(tmp_path, url(one), SNP.replace("roots: roots\n", ""))[0] == 2
        with connected(tmp_path, url(one), UNCONFIDENTIAL) as local:
            assert (local.said["confidential"], local.said["tls_key"]) == (False, None)
            assert client(local).models.list().data
            assert ask(local)[0] == 200
    status, said = refused(tmp_path, "http://192.0.2.1:8000", UNCONFIDENTIAL)
    assert (status, "not this machine's loopback" in said) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "reason"), [
    (("https://user:secret@127.0.0.1:1",), "--token-file FILE"), (("ftp://127.0.0.1",), "neither the URL"),
    (("https://127.0.0.1:1/other",), "neither the URL"), (("https://127.0.0.1:1?x=1",), "neither the URL"),
    (("https://127.0.0.1:99999",), "the URL is none"), (("https://127.0.0.1:1", "--listen", "0.0.0.0:0"), "--expose"),
    (("https://127.0.0.1:1", "--listen", "here"), "no address with a port"),
    (("https://127.0.0.1:1", "--token-file", "absent"), "holds no API key")])
def test_input_that_is_none_ends_with_2(tmp_path: Path, words: Sequence[str], reason: str) -> None:
    status, said = refused(tmp_path, words[0], UNCONFIDENTIAL, *words[1:])
    assert (status in (1, 2), reason in said) == (True, True), said
    assert "secret" not in said


@pytest.mark.slow
def test_a_signal_during_the_first_verification_ends_it(tmp_path: Path) -> None:
    asked = threading.Event()

    def keep_waiting(head: bytes) -> Sequence[bytes]:
        asked.set()
        return [b"HTTP/1.1 200 OK\r\n", b""]

    with hostile(tmp_path, keep_waiting, gap=50) as there, subprocess.Popen(
            argv(tmp_path, there, UNCONFIDENTIAL), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert asked.wait(60), "it does not ask"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.slow
def test_who_has_no_key_gets_evidence_within_bounds(tmp_path: Path) -> None:
    with attested(tmp_path, evidence_per_address=2) as one:
        for nonce, status in (("", 400), ("nonce=", 400), (f"nonce={'0A' * 32}", 400), (f"nonce={'0a' * 31}", 400),
                              (f"nonce={'0a' * 32}&x=1", 400), (f"nonce={'0a' * 32}", 200)):
            got, body = one.ask("GET", f"/.well-known/vmtool/evidence?{nonce}", "")
            assert got == status, body
        assert json.loads(body)["nonce"] == "0a" * 32
        for method in ("POST", "HEAD", "PUT"):
            assert one.ask(method, EVIDENCE, "")[0] in (0, 401, 405)
        statuses = [one.ask("GET", EVIDENCE, "")[0] for _ in range(8)]
        assert (statuses.count(200), statuses.count(429)) == (1, 7)
        assert one.ask("GET", "/v1/models")[0] == 200


@pytest.mark.slow
def test_a_device_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    with attested(tmp_path, evidence_seconds=1.0) as one:
        behave(tmp_path, "hang")
        for _ in range(3):
            status, body = one.ask("GET", EVIDENCE, "")
            assert (status, "does not answer" in json.loads(body)["error"]["message"]) == (503, True)
        assert one.ask("GET", "/v1/models")[0] == 200
        assert one.ask("GET", "/health", "")[0] == 200


@pytest.mark.slow
def test_a_policy_of_an_unconfidential_launch_is_written_and_works(tmp_path: Path) -> None:
    spec, made = tmp_path / "spec.yaml", tmp_path / "made.yaml"
    spec.write_text("apiVersion: vmtool/v1\nkind: Runtime\nmetadata: {name: a}\nspec:\n  allow_unconfidential: true\n"
                    "  runtime: {handler: runc}\n  model: {name: m, path: /m}\n  resources: {memory: 4Gi}\n")
    tool = argv(tmp_path, "", "")[:2]
    subprocess.run([*tool, "--make-policy", str(spec), "-o", str(made)], check=True, timeout=60)
    again = subprocess.run([*tool, "--make-policy", str(spec), "-o", str(made)], timeout=60, capture_output=True,
                           text=True, check=False)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    with serving(tmp_path) as one, connected(tmp_path, url(one), made.read_text()) as local:
        assert client(local).models.list().data
