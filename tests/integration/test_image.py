"""Images for real: built by buildah from a tiny recipe, imported, killed half-way; and the entrypoint with a stand-in.

Nothing here needs a registry. The cache and the state are the tests' own.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.apart import apart
from tests.integration.machine import Vmtool, command
from tests.integration.serving.processes import reserved_port
from vmtool.cache import Cache
from vmtool.containerd.endpoint import Endpoint, private_endpoint, start_daemon
from vmtool.errors import VerificationFailed
from vmtool.host.local import LocalHost
from vmtool.image.actions import ExpectDigest
from vmtool.image.archive import read_archive
from vmtool.image.facts import is_intact
from vmtool.paths import State
from vmtool.plan import StopDaemon
from vmtool.serving.listening import listening_socket

RECIPE = """kind: ContainerImage
name: tiny
base:
  suite: bookworm
  packages: [busybox-static]
platform: linux/amd64
"""
CONTAINERFILE = "FROM scratch\nADD base.tar /\nCOPY serving /opt/serving\n"
KEY = "k" * 32


class Workshop:
    """A tiny recipe with a cache and a state directory of its own."""

    def __init__(self, root: Path) -> None:
        self.cache, self.vmtool, self.recipe = Cache(root / "cache"), Vmtool(root / "state"), root / "recipe"
        self.recipe.mkdir()
        (self.recipe / "recipe.yaml").write_text(RECIPE)

    def write(self, *lines: str) -> None:
        (self.recipe / "Containerfile").write_text(CONTAINERFILE + "\n".join(lines) + "\n")

    def references(self) -> list[str]:
        images = self.vmtool("image", "list", "--json").json["images"]
        return sorted(image["reference"] for image in images if image["present"])

    def archives(self) -> list[Path]:
        return sorted(self.cache.archives("tiny").glob("*.tar"))

    def start(self, until: str) -> subprocess.Popen[str]:
        """Start a build and return once a process with `until` in its command line runs below it."""
        return self.start_until(lambda: any(until in argv for argv in commands()), f"process with {until}")

    def start_until(self, true: Callable[[], bool], what: str, *options: str) -> subprocess.Popen[str]:
        """Start a build and return once something is true."""
        build = subprocess.Popen(self.vmtool.argv("image", "build", self.recipe, *options), stderr=subprocess.PIPE,
                                 text=True)
        try:
            # The first build makes the base, which a busy machine takes minutes for.
            wait(lambda: build.poll() is not None or true(), f"no {what}", 800)
        except BaseException:
            build.kill()
            build.communicate()
            raise
        assert build.poll() is None, build.communicate()[1]
        return build

    def left(self) -> list[str]:
        """Processes, mounts and temporary files that a build has going."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        root = str(self.cache.root)
        containers = self.cache.storage / "overlay-containers" / "containers.json"
        working = json.loads(containers.read_text()) if containers.exists() else []
        return [*(mount for mount in mounts if mount.startswith(root)), *(argv for argv in commands() if root in argv),
                *(str(path) for path in (self.cache.root / "scratch").glob("*")), *map(str, working),
                *(str(path) for path in (self.cache.runroot,) if path.exists())]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    if os.geteuid() or not shutil.which("buildah") or not shutil.which("mmdebstrap"):
        pytest.skip("needs root, buildah and mmdebstrap")
    with apart(), pytest.MonkeyPatch.context() as patch:
        made = Workshop(tmp_path_factory.mktemp("workshop"))
        patch.setenv("VMTOOL_CACHE", str(made.cache.root))
        yield made
        made.vmtool("image", "rm", "tiny", status=None)
        assert made.left() == []


def test_a_build_from_nothing_and_then_nothing_to_build(workshop: Workshop) -> None:
    workshop.write("RUN echo first > /marker")
    done = workshop.vmtool("image", "build", workshop.recipe)
    (archive,) = workshop.archives()
    tag = f"docker.io/vmtool/tiny:{archive.stem}"
    assert workshop.references() == [tag, "docker.io/vmtool/tiny:latest"]
    assert tag in done.out
    assert read_archive(archive).references == (tag,)
    before = archive.stat()
    again = workshop.vmtool("image", "build", workshop.recipe)
    assert "nothing to do" in again.err
    assert archive.stat() == before
    assert workshop.left() == []


def test_a_changed_input_replaces_the_image(workshop: Workshop) -> None:
    workshop.write("RUN echo one > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    first = workshop.references()
    workshop.write("RUN echo two > /marker")
    done = workshop.vmtool("image", "build", workshop.recipe)
    assert "- make the Debian base (bookworm): the same packages are in the cache" in done.err
    second = workshop.references()
    assert len(second) == 2
    assert set(first) & set(second) == {"docker.io/vmtool/tiny:latest"}
    assert [path.stem for path in workshop.archives()] == [second[0].rpartition(":")[2]]


@pytest.mark.slow
def test_a_damaged_cache_is_noticed_and_made_good(workshop: Workshop) -> None:
    workshop.write("RUN echo cached > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    (archive,) = workshop.archives()
    workshop.vmtool("image", "rm", "vmtool/tiny")
    assert workshop.references() == []
    loaded = workshop.vmtool("image", "build", workshop.recipe)
    assert "the same input was built before" in loaded.err
    workshop.vmtool("image", "rm", "tiny")
    with archive.open("r+b") as file:
        file.seek(archive.stat().st_size // 2)
        file.write(b"damage")
    assert not is_intact(archive)
    healed = workshop.vmtool("image", "build", workshop.recipe)
    assert "build the image with buildah" in healed.err
    assert is_intact(archive)
    assert len(workshop.references()) == 2


def damage(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"damage")


@pytest.mark.parametrize("how", [
    pytest.param(damage, id="a changed file"),
    pytest.param(Path.unlink, id="a file that is gone", marks=pytest.mark.slow),
    pytest.param(lambda file: shutil.rmtree(file.parents[2]), id="a layer that is gone", marks=pytest.mark.slow)])
def test_a_layer_that_was_changed_on_the_disk_is_noticed_and_made_good(workshop: Workshop,
                                                                       how: Callable[[Path], None]) -> None:
    workshop.write("RUN echo kept > /layer-file", "RUN echo one > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    (file,) = workshop.cache.storage.glob("overlay/*/diff/layer-file")
    how(file)
    workshop.write("RUN echo kept > /layer-file", f"RUN echo {time.time_ns()} > /marker")
    healed = workshop.vmtool("image", "build", workshop.recipe)
    assert "what buildah keeps of earlier builds is damaged: it is removed, and the image built again" in healed.err
    assert len(workshop.references()) == 2
    assert workshop.left() == []
    assert "nothing to do" in workshop.vmtool("image", "build", workshop.recipe).err


def test_a_disk_that_fills_up_is_told_and_nothing_is_left(workshop: Workshop, tmp_path: Path) -> None:
    """The cache on a small file system; first too small for what the recipe says, then for what it does."""
    workshop.write("RUN echo small > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    (base,) = workshop.cache.root.glob("bases/*.tar")
    (tmp_path / "small").mkdir()
    small, tool = Workshop(tmp_path / "small"), Vmtool(tmp_path / "state")
    small.cache.root.mkdir()
    size = 3 * base.stat().st_size
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", small.cache.root], check=True)
    try:
        shutil.copytree(base.parent, small.cache.root / "bases")
        small.write("RUN head -c 2000000000 /dev/zero > /large")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VMTOOL_CACHE", str(small.cache.root))
            refused = tool("image", "build", small.recipe, status=3)
            assert "1.0 GiB are needed" in refused.err
            (small.recipe / "recipe.yaml").write_text(f"{RECIPE}space: 64Mi\n")
            failed = tool("image", "build", small.recipe, status=1)
            assert "hint: make room: df -h" in failed.err or "hint: is a disk full? df -h" in failed.err
            assert "nothing to recover" in tool("recover").err
            assert [line for line in small.left() if line != str(small.cache.root)] == []
            left = sum(path.stat().st_size for path in small.cache.storage.rglob("large"))
            assert left == 0
    finally:
        subprocess.run(["umount", small.cache.root], check=True)


@pytest.mark.slow
def test_the_same_input_gives_the_same_image(workshop: Workshop) -> None:
    workshop.write("RUN echo same > /marker")
    digests = []
    for options in ((), ("--no-cache",)):
        workshop.vmtool("image", "build", workshop.recipe, *options)
        digests.append({image["digest"] for image in workshop.vmtool("image", "list", "--json").json["images"]})
    assert digests[0] == digests[1]


def test_a_failing_instruction_is_told_with_its_last_lines(workshop: Workshop) -> None:
    workshop.write("RUN echo so it goes >&2; exit 9")
    failed = workshop.vmtool("image", "build", workshop.recipe, status=1)
    assert "so it goes" in failed.err
    assert "exit status 9" in failed.err
    assert "log: " in failed.err
    assert workshop.left() == []


@pytest.mark.timing
def test_ctrl_c_leaves_nothing(workshop: Workshop) -> None:
    workshop.write("RUN sleep 601")
    build = workshop.start("sleep 601")
    build.send_signal(signal.SIGINT)
    assert build.wait(60) == 130
    assert "stopped by SIGINT" in build.communicate()[1]
    assert workshop.left() == []


@pytest.mark.timing
def test_a_killed_build_is_recovered(workshop: Workshop) -> None:
    workshop.write("RUN sleep 602")
    build = workshop.start("sleep 602")
    build.kill()
    build.communicate()
    wait(lambda: not any("sleep 602" in argv for argv in commands()), "the build outlives vmtool")
    assert workshop.left() != [], "else this test shows nothing"
    workshop.vmtool("recover")
    assert workshop.left() == []
    assert "nothing to recover" in workshop.vmtool("recover").err


@pytest.mark.timing
def test_a_build_killed_while_it_makes_the_base_is_recovered(workshop: Workshop) -> None:
    workshop.write("RUN echo base > /marker")
    tree = workshop.cache.root / "scratch" / "tiny"
    build = workshop.start_until(lambda: any(tree.glob("mmdebstrap.*/var/lib/dpkg/status")), "unpacked packages",
                                 "--no-cache")
    build.kill()
    build.communicate()
    wait(lambda: not any(str(tree) in argv for argv in commands()), "mmdebstrap outlives vmtool")
    assert tree.is_dir(), "else this test shows nothing"
    workshop.vmtool("recover")
    assert workshop.left() == []


@pytest.mark.timing
def test_a_second_build_at_the_same_time_is_turned_away(workshop: Workshop) -> None:
    workshop.write("RUN sleep 603")
    build = workshop.start("sleep 603")
    second = workshop.vmtool("image", "build", workshop.recipe, status=3)
    assert f"pid {build.pid}" in second.err
    build.send_signal(signal.SIGTERM)
    build.communicate(timeout=60)
    assert workshop.left() == []


def test_an_archive_moves_to_another_machine(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write("RUN echo moved > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    (archive,) = workshop.archives()
    other = Vmtool(tmp_path / "other")
    other("image", "import", archive)
    (image,) = other("image", "list", "--json").json["images"]
    assert (image["reference"], image["present"]) == (f"docker.io/vmtool/tiny:{archive.stem}", True)
    other("image", "rm", image["reference"])
    assert other("image", "list", "--json").json["images"] == []


def relabelled(archive: Path, target: Path, name: str) -> Path:
    """The same archive, whose image says that it has another name."""
    with tarfile.open(archive) as source, tarfile.open(target, "w") as made:
        for member in source:
            file = source.extractfile(member)
            data = file.read() if file else b""
            if member.name == "index.json":
                index = json.loads(data)
                index["manifests"][0]["annotations"] = {"io.containerd.image.name": name}
                data = json.dumps(index).encode()
                member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return target


def digests(workshop: Workshop) -> dict[str, tuple[str, bool]]:
    images = workshop.vmtool("image", "list", "--json").json["images"]
    return {image["reference"]: (image["digest"], image["present"]) for image in images}


@pytest.mark.slow
def test_an_archive_labelled_like_a_built_image_does_not_take_its_place(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write("RUN echo theirs > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    theirs = relabelled(workshop.archives()[0], tmp_path / "theirs.tar", "docker.io/vmtool/tiny:latest")
    workshop.write("RUN echo mine > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    mine = digests(workshop)
    refused = workshop.vmtool("image", "import", theirs, status=2)
    assert "docker.io/vmtool/tiny:latest is the name of an image that was built from the recipe tiny" in refused.err
    assert f"hint: remove that first: vmtool image rm tiny, then: vmtool image import {theirs}" in refused.err
    assert digests(workshop) == mine
    assert "built from this very input" in workshop.vmtool("image", "build", workshop.recipe).err


@pytest.fixture
def awake(workshop: Workshop) -> Iterator[Endpoint]:
    """The private containerd, running as long as somebody needs it."""
    state, host = State(workshop.vmtool.state), LocalHost()
    daemon = start_daemon(state)
    host.make_dir(state.run)
    daemon.do(host)
    host.write(state.containerd / "users" / "test", "")
    yield private_endpoint(state)
    host.remove(state.containerd / "users" / "test")
    StopDaemon(daemon.pidfile, state.containerd / "users").do(host)


@pytest.mark.slow
def test_a_name_that_was_moved_by_hand_is_noticed_and_made_good(workshop: Workshop, tmp_path: Path,
                                                                awake: Endpoint) -> None:
    workshop.write("RUN echo other > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    other = relabelled(workshop.archives()[0], tmp_path / "other.tar", "docker.io/vmtool/other:1")
    workshop.vmtool("image", "import", other)
    workshop.write("RUN echo mine > /marker")
    workshop.vmtool("image", "build", workshop.recipe)
    mine = digests(workshop)
    name = "docker.io/vmtool/tiny:latest"
    expect = ExpectDigest(awake, name, mine[name][0])
    assert subprocess.run(("sh", "-c", expect.shell()), capture_output=True, check=False).returncode == 0
    subprocess.run(awake.ctr("images", "tag", "--force", "docker.io/vmtool/other:1", name), check=True,
                   capture_output=True)
    assert subprocess.run(("sh", "-c", expect.shell()), capture_output=True, check=False).returncode == 1
    with pytest.raises(VerificationFailed, match="points to"):
        expect.do(LocalHost())
    assert digests(workshop)[name] == (mine[name][0], False)
    done = workshop.vmtool("image", "build", workshop.recipe)
    assert "nothing to do" not in done.err
    assert mine[name][0] in done.out
    assert digests(workshop) == mine
    workshop.vmtool("image", "rm", "docker.io/vmtool/other:1")


@pytest.mark.parametrize(("content", "why"), [(None, "no such file"), (b"text", "no image archive"), (b"", "no image"),
                                              (b"\x1f\x8b\x08\x00", "gunzip")])
def test_what_is_no_image_is_not_imported(workshop: Workshop, tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "archive"
    if content is not None:
        path.write_bytes(content)
    assert why in workshop.vmtool("image", "import", path, status=2).err


# ---- the entrypoint, with a stand-in for vLLM ----

STAND_IN = '''
import os, signal, sys, time
import uvicorn

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()})

how = os.environ["HOW"]
if how == "exit":
    sys.exit(7)
if how == "abort":
    os.abort()
# A file beside this one tells how far it is.
here = os.path.dirname(__file__)
if how == "orphan" and not os.fork():
    if not (child := os.fork()):
        for _ in range(10000):
            if os.path.exists(f"{here}/go"):
                break
            time.sleep(0.01)
        os._exit(0)
    with open(f"{here}/orphan.new", "w") as file:
        file.write(str(child))
    os.rename(f"{here}/orphan.new", f"{here}/orphan")
    os._exit(0)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not os.fork():
        open(f"{here}/ready", "w").close()
        time.sleep(1000)
    time.sleep(1000)
uvicorn.run(app, uds=sys.argv[sys.argv.index("--uds") + 1], log_level="warning")
'''


class Guest:
    """The entrypoint as a process here."""

    def __init__(self, root: Path, how: str, *words: str) -> None:
        self.package = root / "vllm" / "entrypoints" / "openai"
        self.package.mkdir(parents=True)
        (self.package / "api_server.py").write_text(STAND_IN)
        (root / "key").write_text(KEY)
        self.held = reserved_port()
        self.port = self.held.getsockname()[1]
        env = {**os.environ, "HOW": how, "PYTHONPATH": str(root), "TMPDIR": str(root), "PYTHONUNBUFFERED": "1"}
        self.log = root / "output"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vmtool.serving.entrypoint", "--model", str(root), "--served-model-name", "m",
                 "--listen", f"127.0.0.1:{self.port}", "--api-key-file", str(root / "key"), *words],
                env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=inherit_orphans)

    def get(self, path: str, key: str = "") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        status = self.process.wait(30)
        return status, self.log.read_text()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Callable[..., Guest]]:
    made: list[Guest] = []

    def start(how: str, *words: str) -> Guest:
        made.append(Guest(tmp_path, how, *words))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.held.close()
    assert not any(str(tmp_path) in argv for argv in commands()), "the entrypoint leaves processes behind"


@pytest.mark.timing
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_entrypoint_serves_until_told_to_stop(guest: Callable[..., Guest], tmp_path: Path, number: int) -> None:
    one = guest("serve")
    wait(lambda: one.get("/health") in (200, 503), "the front does not listen")
    wait(lambda: one.get("/health") == 200, "vLLM does not answer")
    wait(lambda: "vLLM answers" in one.log.read_text(), "nothing tells of it")
    assert (one.get("/v1/models"), one.get("/v1/models", KEY), one.get("/metrics", KEY)) == (401, 200, 404)
    assert not (tmp_path / "key").exists(), "the engine could read the key"
    (sock,) = tmp_path.glob("vllm-*/vllm.sock")
    assert sock.parent.stat().st_mode & 0o777 == 0o700
    status, output = one.end(number)
    assert status == 0
    assert [word in output for word in ("starting vLLM", "the front listens", "vLLM answers", "stopped")] == [True] * 4
    assert KEY not in output
    assert not list(tmp_path.glob("vllm-*"))


@pytest.mark.parametrize(("how", "told"), [
    ("exit", "vLLM died: exit status 7"), ("abort", "vLLM died: killed by SIGABRT")])
def test_a_vllm_that_dies_ends_the_entrypoint(guest: Callable[..., Guest], how: str, told: str) -> None:
    one = guest(how)
    status, output = one.ended()
    assert status == 1
    assert told in output.splitlines()[-1]


@pytest.mark.timing
def test_a_vllm_that_will_not_stop_is_killed_with_its_workers(guest: Callable[..., Guest]) -> None:
    one = guest("stubborn", "--grace", "0.5")
    wait(lambda: one.get("/health") == 503, "the front does not say that vLLM starts")
    wait(lambda: (one.package / "ready").exists(), "vLLM has no worker")
    status, _ = one.end()
    assert status == 0


@pytest.mark.timing
def test_orphans_are_reaped(guest: Callable[..., Guest]) -> None:
    one = guest("orphan")
    wait(lambda: one.get("/health") == 200, "vLLM does not answer")
    children, orphan = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children"), one.package / "orphan"
    wait(orphan.exists, "vLLM left no orphan")
    wait(lambda: len(children.read_text().split()) == 2 and orphan.read_text() in children.read_text().split(),
         "the orphan is not the entrypoint's")
    (one.package / "go").touch()
    wait(lambda: len(children.read_text().split()) == 1, "vLLM, and no zombie")
    one.end()


def test_a_port_in_use_is_told_before_vllm_starts(guest: Callable[..., Guest]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = guest("serve", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        status, output = one.ended()
    assert status == 1
    assert "Address already in use" in output
    assert "starting vLLM" not in output


def test_an_answer_waits_for_no_acknowledgement() -> None:
    async def accepted() -> int:
        connected: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with listening_socket(("127.0.0.1", 0)) as listening:
            async with await asyncio.start_server(note, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                writer.close()
                return await asyncio.wait_for(connected, 30)

    assert asyncio.run(accepted()) == 1, "TCP_NODELAY is not set on what the front accepts"


def test_the_memory_with_the_key_is_closed_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    program = ("import ctypes, pathlib, sys; from vmtool.serving.entrypoint import take_access; "
               "print(take_access(pathlib.Path(sys.argv[1])).tokens[0].digest.hex(), "
               "ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))")  # PR_GET_DUMPABLE
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "key")], capture_output=True, text=True,
                          timeout=60, check=True)
    assert done.stdout.split() == [hashlib.sha256(KEY.encode()).hexdigest(), "0"]
    assert not (tmp_path / "key").exists()


def test_a_bad_key_is_told_before_vllm_starts(guest: Callable[..., Guest], tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short")
    one = guest("serve", "--api-key-file", str(tmp_path / "short"))
    status, output = one.ended()
    assert status == 1
    assert "at least 16 characters" in output
    assert "starting vLLM" not in output


def wait(true: Callable[[], bool], otherwise: str, seconds: float = 90.0) -> None:
    """Look until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def inherit_orphans() -> None:
    """Make the process get its orphaned grandchildren, as PID 1 of a container does (prctl(2))."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def commands() -> list[str]:
    """The command lines of all processes."""
    return [command(pid) for pid in os.listdir("/proc") if pid.isdigit()]
