"""Certificates of an instance by vmtool's own commands: made, verified by chat, renewed while streams go on."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.answering import RECORD, instance
from tests.integration.machine import Vmtool
from tests.integration.serving.certificates import issue, lines, trusting
from tests.integration.serving.processes import Serving, serving, until
from tests.integration.serving.run_front import KEY, MANAGER, SCRAPER
from vmtool.access.actions import WriteAccess
from vmtool.host.local import LocalHost
from vmtool.paths import State
from vmtool.tls.workers import prepare
from vmtool.watch.loop import Watch
from vmtool.watch.world import LocalWorld

Place = tuple[Vmtool, Path]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """vmtool with an instance "a" that has a certificate, and its directory."""
    tool = instance(tmp_path / "state", 0)
    directory = tmp_path / "state" / "instances" / "a"
    for path, text in (("net/result.json", '{"ips": [{"address": "127.0.0.1/32"}]}'), ("secret/api-key", f"{KEY}\n"),
                       ("secret/manager-key", f"{MANAGER}\n"), ("secret/metrics-key", f"{SCRAPER}\n")):
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(text)
    return tool, directory


@contextmanager
def served(place: Place, **tls: str) -> Iterator[Serving]:
    """The instance's front, with what `spec.tls` says."""
    tool, directory = place
    spec = json.loads((RECORD.parent / "spec.json").read_text())
    spec["spec"]["tls"] = {"source": "ca"} | tls
    (directory / "spec.json").write_text(json.dumps(spec))
    named = {name: Path(tls[name]) for name in ("certificate", "key", "clients") if name in tls}
    prepare.run(prepare.Order(tool.state / "ca", directory / "secret" / "tls", ("localhost",),
                              directory / "net" / "result.json", **named), LocalHost())  # type: ignore[arg-type]
    access = WriteAccess(directory / "secret" / "api-key", directory / "none", directory / "secret" / "manager-key",
                         directory / "secret" / "metrics-key", directory / "list", directory / "secret" / "tls")
    access.do(LocalHost())
    shown = [line for line in (directory / "list").read_text().splitlines(keepends=True) if line.startswith("c")]
    (directory / "more").write_text("".join(shown))
    secure = trusting(tool.state / "ca")
    if "clients" in tls:
        secure.load_cert_chain(directory / "secret" / "tls" / "client.pem")
    (directory / "front").mkdir()
    with serving(directory / "front", more=directory / "more", secure=secure) as one:
        record = json.loads((directory / "instance.json").read_text()) | {
            "port": one.port, "manage": one.manage_port, "result": str(directory / "net" / "result.json"), "tls": True,
            "client_certificate": "clients" in tls}
        (directory / "instance.json").write_text(json.dumps(record))
        yield one


def openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=60, check=True).stdout


def test_chat_and_tokens_work_over_it_and_know_the_front_by_its_certificate(place: Place) -> None:
    tool, directory = place
    with served(place) as one:
        assert tool("chat", "a", "Why?").out.startswith("word word")
        assert tool("token", "add", "ci", "a").out.startswith("vmt-")
        impostor = issue(tool.state / "ca", "localhost", "127.0.0.1")  # of the same CA, and of the same names
        (directory / "other").mkdir()
        (directory / "other" / "list").write_text(lines(impostor))
        with serving(directory / "other", more=directory / "other" / "list",
                     secure=trusting(tool.state / "ca")) as other:
            record = json.loads((directory / "instance.json").read_text())
            (directory / "instance.json").write_text(json.dumps(record | {"port": other.port}))
            assert "certificate verify failed" in tool("chat", "a", "Why?", status=1).err
            assert "certificate verify failed" in tool("chat", "a", "Why?", "--stream", status=1).err
            assert not other.events()
        (directory / "instance.json").write_text(json.dumps(record | {"tls": False}))
        assert tool("chat", "a", "Why?", status=1).out == "", "plain HTTP was answered"
        assert one.ask("GET", "/v1/models")[0] == 200


def test_what_the_host_knows_of_its_instances(place: Place) -> None:
    tool, directory = place
    with served(place) as one:
        (directory / "evidence").mkdir(exist_ok=True)
        (directory / "evidence" / "canary.json").write_text('{"right": true}')
        known = tool("metrics").out
        assert 'vmtool_canary_right{name="a"} 1' in known
        assert 'vmtool_instance_running{name="a"} 1' in known
        assert "vmtool_certificate_end_time_seconds" in known
        assert "vmtool_requests_total" not in known
        assert one.ask("GET", "/v1/models")[0] == 200
        assert 'vmtool_requests_total{route="GET /v1/models",status="200",token="key"} 1.0' in tool(
            "metrics", "a").out
        (directory / "evidence" / "canary.json").write_text("[" * 100_000)
        assert "vmtool_canary" not in tool("metrics").out


def test_renewed_while_a_stream_goes_on(place: Place) -> None:
    tool, _ = place
    with served(place) as one:
        before = tool("ca", "show", "--json").json["instances"]["a"]
        assert "a: not due" in tool("ca", "renew").err
        with one.connect() as connection:
            connection.sendall(one.chat(stream=200, gap=0.02))
            data = connection.recv(1000)
            assert "a: renewed, until" in tool("ca", "renew", "a", "--force").err
            while b"[DONE]" not in data:
                piece = connection.recv(1 << 16)
                assert piece, "the stream was cut off"
                data += piece
        assert tool("ca", "show", "--json").json["instances"]["a"] >= before
        assert tool("chat", "a", "Why?").out.startswith("word word")
        assert one.ask("GET", "/v1/models")[0] == 200


def test_watch_renews_it_in_time_and_no_connection_ends(place: Place) -> None:
    """By the real command, and a clock of the test's own: each six hours it looks whether it is due."""
    tool, directory = place

    def nearly_over() -> str:
        pair = issue(tool.state / "ca", "localhost", "127.0.0.1", days=0.0015)  # begun five minutes ago
        tls = directory / "secret" / "tls"
        for name, text in (("certificate.pem", pair.certificate), ("key.pem", pair.key),
                           ("trusted.pem", pair.certificate + (tls / "trusted.pem").read_bytes())):
            (tls / name).unlink()
            (tls / name).write_bytes(text)
        tool("token", "apply", "a")
        return shown()

    def shown() -> str:
        with one.connect() as connection:
            assert isinstance(connection, ssl.SSLSocket)
            return str((connection.getpeercert() or {})["serialNumber"])

    def turn(now: float) -> bool:
        """One turn of watch, until its commands have come to their end; whether there were some."""
        watch.turn(now)
        asked = bool(world.jobs)
        until(lambda: all(job.result() is not None for _, job in world.jobs.values()), "a command does not end")
        world.look()
        return asked

    with served(place) as one, one.connect() as connection:
        before = nearly_over()
        connection.sendall(one.chat(stream=200, gap=0.02))
        data = connection.recv(1000)
        world = LocalWorld(State(tool.state))
        watch = Watch(world)
        assert turn(1e6)
        first = shown()
        assert first != before
        before = nearly_over()
        assert not turn(1e6 + 6 * 3600 - 1)
        assert shown() == before
        assert turn(1e6 + 6 * 3600)
        assert shown() not in (first, before)
        assert turn(1e6 + 12 * 3600), "it looks, and it is not due"
        while b"[DONE]" not in data:
            piece = connection.recv(1 << 16)
            assert piece, "the stream was cut off"
            data += piece
    events = [json.loads(line)["event"] for line in (directory / "events.jsonl").read_text().splitlines()]
    assert events.count("certificate") == 2
    assert "renew-failed" not in events


def test_one_that_has_ended_is_renewed_and_what_the_front_did_not_take_is_tried_again(place: Place) -> None:
    """Clients refuse it, and so does chat; the host still gives the front another one."""
    tool, directory = place
    with served(place) as one:
        ended = issue(tool.state / "ca", "localhost", "127.0.0.1", days=-0.0001)
        tls = directory / "secret" / "tls"
        for name, text in (("certificate.pem", ended.certificate), ("key.pem", ended.key),
                           ("trusted.pem", ended.certificate + (tls / "trusted.pem").read_bytes())):
            (tls / name).write_bytes(text)
        tool("token", "apply", "a")
        (tls / "trusted.pem").write_bytes(ended.certificate)
        assert "certificate has expired" in tool("chat", "a", "Why?", status=1).err
        (directory / "secret" / "manager-key").write_text("of-nobody-that-it-knows\n")
        assert "did not take the list" in tool("ca", "renew", status=1).err
        (directory / "secret" / "manager-key").write_text(f"{MANAGER}\n")
        assert "a: renewed, until" in tool("ca", "renew").err
        assert "a: not due" in tool("ca", "renew").err
        assert tool("chat", "a", "Why?").out.startswith("word word")
        assert one.ask("GET", "/v1/models")[0] == 200


def test_killed_between_the_new_certificate_and_the_front_it_is_still_known(place: Place) -> None:
    tool, directory = place
    with served(place):
        prepare.run(prepare.Order(tool.state / "ca", directory / "secret" / "tls", ("localhost",), Path("/no"),
                                  keeps=True), LocalHost())
        assert tool("chat", "a", "Why?").out.startswith("word word")
        tool("ca", "renew", "a", "--force")
        assert tool("chat", "a", "Why?").out.startswith("word word")
        assert (directory / "secret" / "tls" / "trusted.pem").read_text().count("BEGIN") == 1


def test_vmtool_has_a_certificate_where_clients_need_one(place: Place) -> None:
    tool, directory = place
    issue(directory / "others", "me", client=True)
    with served(place, clients=str(directory / "others" / "ca.pem")) as one:
        assert tool("chat", "a", "Why?").out.startswith("word word")
        tool("ca", "renew", "a", "--force")
        assert tool("chat", "a", "Why?", "--stream", status=1).err  # the stand-in streams no chat
        mine = trusting(tool.state / "ca", issue(directory / "others", "me", client=True))
        assert Serving(one.port, one.front, one.engine, one.directory, 0, mine).ask("GET", "/v1/models")[0] == 200


def test_a_person_s_file_is_taken_anew_and_a_wrong_one_changes_nothing(place: Place) -> None:
    tool, directory = place
    (directory / "mine").mkdir()
    certificate, key = directory / "mine" / "c.pem", directory / "mine" / "k.pem"

    def put(names: tuple[str, ...] = ("localhost",), days: float = 10) -> None:
        pair = issue(tool.state / "ca", *names, days=days)
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)

    put()
    with served(place, source="files", certificate=str(certificate), key=str(key)):
        assert tool("chat", "a", "Why?").out.startswith("word word")
        assert "not due" in tool("ca", "renew").err
        old = key.read_bytes()
        put()
        good = key.read_bytes()
        wrong: dict[str, Callable[[], object]] = {
            "do not belong together": lambda: key.write_bytes(old), "no private key": lambda: key.write_bytes(b"x"),
            "no such file": key.unlink, "ended on": lambda: put(days=-0.001)}
        for said, break_it in wrong.items():
            break_it()
            assert said in tool("ca", "renew", "a", status=1).err
            assert tool("chat", "a", "Why?").out.startswith("word word")
        put()
        assert good != key.read_bytes()
        assert "renewed" in tool("ca", "renew").err
        assert tool("chat", "a", "Why?").out.startswith("word word")


def test_the_ca_is_made_once_and_openssl_agrees(tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "state")
    shown = tool("ca", "show", "--json").json
    pem = tmp_path / "ca.pem"
    pem.write_text(tool("ca", "export").out)
    assert tool("ca", "show", "--json").json == shown
    assert openssl("x509", "-in", str(pem), "-noout", "-fingerprint", "-sha256").split("=")[1].strip().replace(
        ":", "").lower() == shown["fingerprint"]
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(issue(tool.state / "ca", "llm.lab", "10.0.0.1").certificate)
    assert "OK" in openssl("verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "llm.lab", "-CAfile",
                           str(pem), str(leaf))
    assert os.stat(tool.state / "ca" / "ca.key").st_mode & 0o777 == 0o600
    (tool.state / "ca" / "ca.key").unlink()
    assert "is damaged" in tool("ca", "show", status=1).err
