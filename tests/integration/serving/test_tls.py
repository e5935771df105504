"""TLS before the front: only 1.3, only with the right certificates, and bounded like everything else."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.integration.serving.certificates import issue, line, lines, trusting
from tests.integration.serving.floods import FLOODS, MOST_MEMORY, enough_descriptors
from tests.integration.serving.processes import Serving, serving, until
from tests.integration.serving.run_front import KEY, MANAGER, MANAGERS_LINE
from vmtool.host.http import request, shown_certificate, unknown_server
from vmtool.machine import Trust
from vmtool.tls.authority import certificate_path

HELLO = bytes.fromhex("16030100c8010000c40303")


def started(directory: Path, **more: float) -> contextlib.AbstractContextManager[Serving]:
    (directory / "list").write_text(lines(issue(directory / "ca")))
    return serving(directory, more=directory / "list", secure=trusting(directory / "ca"), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    enough_descriptors()
    with started(tmp_path_factory.mktemp("tls")) as one:
        yield one


def change(one: Serving, text: str) -> int:
    manage = Serving(one.manage_port, one.front, one.engine, one.directory, 0, one.secure)
    body = f"{KEY}\n{MANAGERS_LINE}{text}".encode()
    return manage.ask("PUT", "/access", f"Authorization: Bearer {MANAGER}\r\n", body)[0]


def serial(one: Serving) -> str:
    with one.connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.version() == "TLSv1.3"
        return str((connection.getpeercert() or {})["serialNumber"])


def test_openais_client_is_served_and_verifies(front: Serving) -> None:
    with openai.DefaultHttpxClient(verify=trusting(front.directory / "ca")) as secure:
        one = openai.OpenAI(api_key=KEY, base_url=f"https://localhost:{front.port}/v1", http_client=secure,
                            max_retries=0)
        assert one.models.list().data
    stranger = openai.OpenAI(api_key=KEY, base_url=f"https://localhost:{front.port}/v1", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        stranger.models.list()


def test_curl_streams(front: Serving) -> None:
    ca = certificate_path(front.directory / "ca")
    done = subprocess.run(["curl", "-sSN", "--cacert", str(ca), "-H", f"Authorization: Bearer {KEY}", "-d",
                           '{"stream": 3}', f"https://localhost:{front.port}/v1/chat/completions"],
                          capture_output=True, timeout=30, check=True)
    assert done.stdout.count(b"data: ") == 4


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_older_tls_is_refused(front: Serving, version: ssl.TLSVersion) -> None:
    context = trusting(front.directory / "ca")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = version
    with front.tcp() as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_plain_http_gets_no_answer(front: Serving) -> None:
    with front.tcp() as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)


def test_another_certificate_is_shown_without_a_connection_that_ends(front: Serving) -> None:
    before = serial(front)
    new = issue(front.directory / "ca")
    with front.connect() as connection:
        connection.sendall(front.chat(stream=60, gap=0.05))
        data = connection.recv(1000)
        assert change(front, lines(new)) == 200
        while b"[DONE]" not in data:
            piece = connection.recv(1 << 16)
            assert piece, "the stream was cut off"
            data += piece
        assert data.count(b'"number"') == 60
    assert serial(front) != before


def test_what_cannot_be_shown_changes_nothing(front: Serving) -> None:
    before, one, other = serial(front), issue(front.directory / "ca"), issue(front.directory / "ca")
    crossed = lines(one).splitlines(keepends=True)[0] + lines(other).splitlines(keepends=True)[1]
    for text in (crossed, "", lines(one, front.directory / "ca"), "certificate AAAA\ncertificate-key AAAA\n",
                 "certificate !\ncertificate-key AAAA\n", lines(one).splitlines()[0] + "\n"):
        assert change(front, text) == 422
    assert serial(front) == before
    assert change(front, lines(one)) == 200


def test_clients_need_a_certificate_of_the_right_ca(tmp_path: Path) -> None:
    server, right, wrong = (tmp_path / name for name in ("ca", "right", "wrong"))
    mine = issue(right, "me", client=True)
    (tmp_path / "list").write_text(lines(issue(server), right))
    good = trusting(server, mine)
    with serving(tmp_path, more=tmp_path / "list", secure=good) as one:
        assert one.ask("GET", "/v1/models")[0] == 200
        for own in (None, issue(wrong, "me", client=True), issue(right, "localhost"),
                    issue(right, "me", client=True, days=-0.001)):
            stranger = Serving(one.port, one.front, one.engine, one.directory, 0, trusting(server, own))
            with contextlib.suppress(OSError):
                assert stranger.ask("GET", "/v1/models")[0] == 0, "it was let in"
        assert one.ask("GET", "/v1/models")[0] == 200


@pytest.mark.parametrize("flood", ["nothing", "half a hello", "no TLS", "a hello that never ends"])
def test_handshakes_that_do_not_come_to_their_end_are_bounded(tmp_path: Path, flood: str) -> None:
    enough_descriptors()
    sent = {"nothing": b"", "half a hello": HELLO, "no TLS": b"GET / HTTP/1.1\r\n" * 1000,
            "a hello that never ends": HELLO + b"\x00" * 100_000}[flood]
    with started(tmp_path, keyless_seconds=15.0) as one, contextlib.ExitStack() as open_ones:
        for _ in range(1500):
            plain = open_ones.enter_context(one.tcp())
            plain.setblocking(False)
            with contextlib.suppress(OSError):
                plain.send(sent)
        assert one.ask("GET", "/v1/models")[0] == 200
        assert one.open_connections() < 600
        until(lambda: one.open_connections() < 20, "half-open handshakes stay")
        assert one.memory() < MOST_MEMORY
        assert len(one.log()) < 100_000


@pytest.mark.parametrize("flood", ["headers", "one header", "requests for the health", "trailers", "keyed long bodies",
                                   "keyed broken chunks"])
def test_a_flood_within_tls_takes_no_memory_and_keeps_nobody_out(front: Serving, flood: str) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(200):
            connection = open_ones.enter_context(front.connect())
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(FLOODS[flood])
        assert front.ask("GET", "/v1/models")[0] == 200
        assert front.memory() < MOST_MEMORY


def test_idle_connections_with_tls_are_bounded_in_number_time_and_memory(tmp_path: Path) -> None:
    enough_descriptors()
    with started(tmp_path, keyless_seconds=15.0, keyless_per_address=1100) as one, contextlib.ExitStack() as open_ones:
        for _ in range(1100):
            with contextlib.suppress(OSError):
                open_ones.enter_context(one.connect())
        assert one.ask("GET", "/v1/models")[0] == 200
        assert one.memory() < MOST_MEMORY, one.memory()
        until(lambda: one.open_connections() < 20, "idle connections stay")


def test_answers_that_are_not_read_are_not_kept(front: Serving) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(250):
            open_ones.enter_context(front.connect()).sendall(front.chat(stream=2000, pad=5000))
        until(lambda: front.events().count("begun") >= 200, "the engine has not all")
        assert front.memory() < MOST_MEMORY


def test_a_client_that_goes_ends_its_request(front: Serving) -> None:
    (front.directory / "engine").write_text("")
    with front.connect() as connection:
        connection.sendall(front.chat(hang=50))
        until(lambda: "begun" in front.events(), "the engine has no request")
    until(lambda: "given up" in front.events(), "the engine works for nobody")


def own_key(directory: Path) -> contextlib.AbstractContextManager[Serving]:
    """A front that makes its key, known by what it shows first, as the worker learns it."""
    (directory / "list").write_text("own-key\n")
    return serving(directory, more=directory / "list", secure=unknown_server())


def test_a_key_that_the_front_has_made_is_another_one_at_each_start_and_stays_while_it_runs(tmp_path: Path) -> None:
    seen = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        with own_key(tmp_path / str(number)) as one:
            shown = shown_certificate("127.0.0.1", one.port, 10.0)
            (one.directory / "trusted.pem").write_bytes(shown)
            trust = Trust(one.directory)
            asked = request("GET", f"https://127.0.0.1:{one.port}/v1/models", {"Authorization": f"Bearer {KEY}"}, None,
                            10.0, trust)
            assert asked[0] == 200
            # Another list, as after `vmtool token add`, keeps the key; one that somebody else has is refused.
            assert change(one, "own-key\n") == 200
            assert change(one, lines(issue(tmp_path / "ca"))) == 422
            assert shown_certificate("127.0.0.1", one.port, 10.0) == shown
            seen.append(shown)
    assert seen[0] != seen[1] and all(seen)
    assert request("GET", f"https://127.0.0.1:{one.port}/health", {}, None, 2.0, trust)[0] == 0


def test_clients_of_a_front_with_its_own_key_need_a_certificate_when_it_asks_for_one(tmp_path: Path) -> None:
    mine = issue(tmp_path / "ca", "me", client=True)
    context = unknown_server()
    (tmp_path / "client.pem").write_bytes(mine.certificate + mine.key)
    context.load_cert_chain(tmp_path / "client.pem")
    (tmp_path / "list").write_text("own-key\n" + line("client-ca", certificate_path(tmp_path / "ca").read_bytes()))
    with serving(tmp_path, more=tmp_path / "list", secure=context) as one:
        assert one.ask("GET", "/v1/models")[0] == 200
        stranger = Serving(one.port, one.front, one.engine, one.directory, 0, unknown_server())
        with contextlib.suppress(OSError):
            assert stranger.ask("GET", "/v1/models")[0] == 0, "it was let in"
