"""Named tokens at a front that runs, by vmtool's own commands, asked by OpenAI's client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.integration.answering import instance
from tests.integration.machine import Vmtool
from tests.integration.serving.processes import BEARER, Serving, everything, parse, serving, until
from tests.integration.serving.run_front import KEY, MANAGER, SCRAPER

SAYS = '{"id":"x","choices":[],"usage":{"prompt_tokens":40,"completion_tokens":60,"total_tokens":100}}'


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Serving]:
    (tmp_path / "front").mkdir()
    with serving(tmp_path / "front") as one:
        yield one


@pytest.fixture
def vmtool(tmp_path: Path, front: Serving) -> Vmtool:
    """With the instance "a", which is that front."""
    tool = instance(tmp_path / "state", front.port)
    directory = tmp_path / "state" / "instances" / "a"
    (directory / "net").mkdir()
    (directory / "net" / "result.json").write_text('{"ips": [{"address": "127.0.0.1/32"}]}')
    record = json.loads((directory / "instance.json").read_text())
    record |= {"manage": front.manage_port, "result": str(directory / "net" / "result.json")}
    (directory / "instance.json").write_text(json.dumps(record))
    (directory / "secret" / "api-key").write_text(f"{KEY}\n")
    (directory / "secret" / "manager-key").write_text(f"{MANAGER}\n")
    (directory / "secret" / "metrics-key").write_text(f"{SCRAPER}\n")
    return tool


def client(front: Serving, token: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(api_key=token, base_url=f"http://127.0.0.1:{front.port}/v1", max_retries=retries)


def ask(one: openai.OpenAI, **asked: object) -> object:
    return one.chat.completions.with_raw_response.create(model="m", messages=[], extra_body=asked)


def listed(vmtool: Vmtool) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in vmtool("token", "list", "a", "--json").json["tokens"]}


def test_a_token_is_in_effect_at_once_and_kept_as_its_digest_alone(front: Serving, vmtool: Vmtool) -> None:
    token = vmtool("token", "add", "ci", "a").out.strip()
    assert client(front, token).models.list().data[0].id == "canary"
    assert client(front, KEY).models.list().data
    row = listed(vmtool)["ci"]
    assert (row["in_effect"], row["asked"], row["requests"]) == (True, 1, None)
    assert row["last_use"]
    kept = b"".join(path.read_bytes() for path in vmtool.state.rglob("*") if path.is_file())
    assert token.encode() not in kept
    vmtool("token", "revoke", "ci", "a")
    with pytest.raises(openai.AuthenticationError):
        client(front, token).models.list()
    assert "ci" not in listed(vmtool)
    assert client(front, KEY).models.list().data


def test_a_revoked_token_is_not_answered_to_the_end(front: Serving, vmtool: Vmtool) -> None:
    token = vmtool("token", "add", "ci", "a").out.strip()
    with front.connect() as connection:
        connection.sendall(front.chat(stream=100_000, gap=0.01).replace(KEY.encode(), token.encode()))
        assert b"200 OK" in connection.recv(1 << 16)
        vmtool("token", "revoke", "ci", "a")
        assert not everything(connection).endswith(b"0\r\n\r\n")
    until(lambda: "given up" in front.events(), "the engine works for nobody")


def test_requests_in_a_minute_are_limited_and_openais_client_waits(front: Serving, vmtool: Vmtool) -> None:
    token = vmtool("token", "add", "ci", "a", "--requests", "60").out.strip()
    answer = client(front, token).models.with_raw_response.list()
    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    assert answer.headers["x-ratelimit-remaining-requests"] == "59"
    assert "x-ratelimit-limit-tokens" not in answer.headers
    vmtool("token", "revoke", "ci", "a")
    slow = vmtool("token", "add", "slow", "a", "--requests", "30").out.strip()
    for _ in range(30):
        client(front, slow).models.list()
    with pytest.raises(openai.RateLimitError, match="30 requests in a minute") as caught:
        for _ in range(30):  # a machine that is slow gives some back
            client(front, slow).models.list()
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 2
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert client(front, slow, retries=2).models.list().data
    assert client(front, KEY).models.list().data


def test_tokens_in_a_minute_are_what_the_engine_says(front: Serving, vmtool: Vmtool) -> None:
    token = vmtool("token", "add", "ci", "a", "--tokens", "150").out.strip()
    one = client(front, token)
    assert ask(one, says=SAYS).headers["x-ratelimit-limit-tokens"] == "150"  # type: ignore[attr-defined]
    ask(one, says=SAYS)
    with pytest.raises(openai.RateLimitError, match="150 tokens in a minute") as caught:
        ask(one, says=SAYS)
    assert caught.value.response.headers["x-ratelimit-remaining-tokens"] == "0"
    row = listed(vmtool)["ci"]
    assert (row["prompt_tokens"], row["completion_tokens"]) == (80, 120)


def test_a_stream_that_says_no_usage_is_counted_by_its_events(front: Serving, vmtool: Vmtool) -> None:
    token = vmtool("token", "add", "ci", "a", "--tokens", "20").out.strip()
    request = front.chat(stream=50).replace(KEY.encode(), token.encode())
    with front.connect() as connection:
        connection.sendall(request)
        while b"[DONE]" not in connection.recv(1 << 16):
            pass
    with pytest.raises(openai.RateLimitError):
        ask(client(front, token))
    assert listed(vmtool)["ci"]["completion_tokens"] == 51


def test_answers_at_once_are_limited(front: Serving, vmtool: Vmtool) -> None:
    token = vmtool("token", "add", "ci", "a", "--streams", "2").out.strip()
    with front.connect() as first, front.connect() as second:
        for each in (first, second):
            each.sendall(front.chat(hang=600).replace(KEY.encode(), token.encode()))
        until(lambda: front.events().count("begun") == 2, "the engine has not both")
        with pytest.raises(openai.RateLimitError, match="2 answers at once"):
            client(front, token).models.list()
    until(lambda: front.events().count("given up") == 2, "the engine works for nobody")
    assert client(front, token).models.list().data


def test_a_file_that_is_damaged_changes_nothing_and_says_where(front: Serving, vmtool: Vmtool) -> None:
    token = vmtool("token", "add", "ci", "a").out.strip()
    path = vmtool.state / "instances" / "a" / "tokens"
    good = path.read_text()
    for text, said in ((good + "token lab sha256:00\n", "tokens, line 2: a digest is sha256:"),
                       (good + good, "the name of ci is there twice"), (good + "\0" * 100, "line 2")):
        path.write_text(text)
        for words in (("list", "a"), ("add", "x", "a"), ("revoke", "ci", "a"), ("apply", "a")):
            failed = vmtool("token", *words, status=1)
            assert said in failed.err
            assert "hint: correct it with an editor, then: vmtool token apply a" in failed.err
        assert path.read_text() == text
        assert client(front, token).models.list().data
    path.write_text("# by hand\n" + good.replace("token ci", "token renamed") + "\n")
    vmtool("token", "apply", "a")
    assert listed(vmtool)["renamed"]["in_effect"]
    assert client(front, token).models.list().data
    vmtool("token", "add", "x", "a")
    assert path.read_text().startswith("# by hand\n")


def test_what_the_file_says_and_what_is_in_effect_is_told_apart(front: Serving, vmtool: Vmtool) -> None:
    vmtool("token", "add", "ci", "a")
    path = vmtool.state / "instances" / "a" / "tokens"
    path.write_text(f"token new sha256:{'1' * 64}\n")
    out = vmtool("token", "list", "a").out
    assert "not in effect" in next(line for line in out.splitlines() if line.startswith("new"))
    assert "not in the file, but in effect" in next(line for line in out.splitlines() if line.startswith("ci"))


@pytest.mark.parametrize(("words", "said"), [
    (("add", "key", "a"), "is not 'key'"), (("add", "A B", "a"), "a token's name"),
    (("add", "../x", "a"), "a token's name"), (("add", "ci", "a", "--requests", "0"), "0 is not in the range"),
    (("revoke", "ci", "a"), "there is no token 'ci'"),
    (("add", "ci", "b"), "there is no instance 'b'"),
])
def test_what_is_wrong_is_refused(vmtool: Vmtool, words: tuple[str, ...], said: str) -> None:
    failed = vmtool("token", *words, status=None)
    assert failed.status in (1, 2)
    assert said in failed.err


def test_a_front_that_is_away_is_reported_and_the_file_is_kept(vmtool: Vmtool, front: Serving) -> None:
    directory = vmtool.state / "instances" / "a"
    (directory / "secret" / "manager-key").write_text("x" * 32)
    failed = vmtool("token", "add", "ci", "a", status=1)
    assert "but not what a lets in" in failed.err
    assert "hint: vmtool token apply a" in failed.err
    (directory / "secret" / "manager-key").write_text(f"{MANAGER}\n")
    vmtool("token", "apply", "a")
    assert listed(vmtool)["ci"]["in_effect"]


def test_only_the_manager_is_heard_on_the_second_port_and_its_peers_are_bounded(front: Serving) -> None:
    manage = Serving(front.manage_port, front.front, front.engine, front.directory)
    manager = f"Authorization: Bearer {MANAGER}\r\n"
    for headers in ("", BEARER, f"Authorization: Bearer {MANAGER}x\r\n"):
        assert manage.ask("GET", "/access", headers)[0] == 401
    assert manage.ask("GET", "/access", manager)[0] == 200
    assert front.ask("GET", "/access", manager)[0] == 401
    for body, status in ((b"", 422), (f"{KEY}\n".encode(), 422), (b"x" * (2 << 20), 413), (b"\xff\0" * 100, 422)):
        assert manage.ask("PUT", "/access", manager, body)[0] == status
    assert front.ask("GET", "/v1/models")[0] == 200
    idle = [manage.connect() for _ in range(200)]
    assert manage.ask("GET", "/access", manager)[0] == 200
    for connection in idle:
        connection.close()


def test_two_at_once_lose_no_token(vmtool: Vmtool) -> None:
    def add(name: str) -> None:
        while vmtool("token", "add", name, "a", status=None).status:
            pass

    threads = [threading.Thread(target=add, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"t{number}" for number in range(4)} <= set(listed(vmtool))


def test_without_a_key_an_attacker_learns_no_limits(front: Serving) -> None:
    answer = front.say(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert parse(answer)[0] == 401
    assert b"ratelimit" not in answer.lower()
