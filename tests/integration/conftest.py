"""A state directory that outlives the tests, with the image and the canary model in it.

It lies in the cache, since importing the image again for each run would take most of the time. Everything else that a
test makes, it must remove; `untouched` looks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.apart import NAMES, leave_the_machines
from tests.integration.kills import Pace
from tests.integration.machine import Vmtool, footprint, kill_containerd
from tests.integration.standin_image import standin_image
from tests.lanes import ROOTFS, lane_of

CACHE = Path(os.environ.get("VMTOOL_CACHE") or Path.home() / ".cache" / "vmtool")
IMAGE = "vmtool/vllm-cpu:latest"
# What a launch with vLLM itself adds to a spec.
VLLM: dict[str, object] = {"image": IMAGE, "vllm": {
    "args": {"enforce-eager": True, "dtype": "bfloat16", "kv-cache-memory-bytes": "64M", "max-model-len": 256}}}

# And a parser of tool calls and one of reasoning, for what clients may ask with them.
PARSERS: dict[str, object] = {"image": IMAGE, "vllm": {"args": {
    "enforce-eager": True, "dtype": "bfloat16", "kv-cache-memory-bytes": "64M", "max-model-len": 256,
    "enable-auto-tool-choice": True, "tool-call-parser": "hermes", "reasoning-parser": "granite",
    "structured-outputs-config": {"enable_in_reasoning": True}}}}


@contextlib.contextmanager
def guest_builds() -> Iterator[None]:
    """Guest images are built one at a time, since they share a cache, and a second build is turned away: what builds
    them in another lane takes turns with the lane of the guest images."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "tests-guest-builds.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with guest_builds() if lane_of(item.nodeid) == ROOTFS else contextlib.nullcontext():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def marked() -> None:
    """What this process starts is told from what other test processes start."""
    if not os.geteuid():
        try:
            leave_the_machines(NAMES)
        except PermissionError:
            warnings.warn("test processes are not told apart here: unshare(2) is not permitted", stacklevel=1)


@pytest.fixture(scope="session")
def vmtool() -> Vmtool:
    """vmtool on the lasting state directory; the image is built and imported when it is not there."""
    if os.geteuid():
        pytest.skip("needs root")
    tool = Vmtool(CACHE / "test-state")
    recover(tool)
    for instance in tool("ps", "--json").json["instances"]:
        tool("rm", "--yes", instance["name"])
    tool("image", "build", "vllm-cpu", timeout=2400)
    return tool


def recover(tool: Vmtool) -> None:
    """Recover what a test run left that was cut off. What a vmtool under development left, a later one may not be able
    to undo; a cache heals itself, so it is removed then."""
    left = tool("recover", status=None)
    if not left.status:
        return
    warnings.warn(f"{tool.state} is made again: {left.err}", stacklevel=1)
    kill_containerd(tool)
    for point in reversed([line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]):
        if Path(point).is_relative_to(tool.state):
            subprocess.run(["umount", point], check=True)
    shutil.rmtree(tool.state)


@pytest.fixture(scope="session")
def model(vmtool: Vmtool) -> Path:
    """The canary model, trained once."""
    path = vmtool.state / "models" / "canary"
    vmtool("model", "canary", path, "--image", "vmtool/vllm-cpu")
    return path


@pytest.fixture(scope="session")
def standin(vmtool: Vmtool, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of launches that need not show vLLM itself: the real one, but what it starts is a stand-in."""
    [real] = (CACHE / "images" / "vllm-cpu").glob("*.tar")
    return standin_image(vmtool, real, tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="session")
def pace(pytestconfig: pytest.Config) -> Pace:
    """With --slow tests stop vmtool at every action."""
    return Pace(every=bool(pytestconfig.getoption("--slow")))


@pytest.fixture
def untouched() -> Iterator[None]:
    """The machine is afterwards as it was before."""
    before = footprint()
    yield
    assert footprint() == before


MakeSpec = Callable[..., Path]


@pytest.fixture(scope="session")
def make_spec(model: Path, standin: str, tmp_path_factory: pytest.TempPathFactory) -> MakeSpec:
    """Write a spec of a launch with the stand-in: `make_spec("name", port, **changes)`; `**VLLM` takes vLLM itself."""
    directory = tmp_path_factory.mktemp("specs")

    def make(name: str, port: int | None = None, **changes: object) -> Path:
        body = {
            "runtime": {"handler": "runc"}, "allow_unconfidential": True, "image": standin,
            "model": {"name": "canary", "path": str(model)},
            "resources": {"memory": "4Gi", "cpus": 2},
            # What is computed from the model's size is for a machine that does nothing else.
            "timeouts": {"start": 800, "canary": 300},
            "network": {"publish": [f"{port}:8000"] if port else []},
        }
        spec = {"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": name}, "spec": body | changes}
        path = directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec))
        return path

    return make


@pytest.fixture(scope="session")
def small_server(model: Path) -> dict[str, object]:
    """Changes of a spec for the server on transformers."""
    return {"image": IMAGE, "model": {"name": "canary", "path": str(model), "engine": "transformers"}}


@pytest.fixture(scope="session")
def programs() -> Path:
    """Where Debian's prometheus and promtool are, unpacked and not installed: the package starts a service."""
    place = CACHE / "prometheus"
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            for words in (("apt-get", "download", "-q", "prometheus"), ("sh", "-c", "dpkg-deb -x prometheus_*.deb p")):
                if subprocess.run(words, cwd=scratch, capture_output=True, timeout=300, check=False).returncode:
                    pytest.skip(f"needs Debian's prometheus: {' '.join(words)} failed")
            with contextlib.suppress(OSError):  # another worker was first
                (Path(scratch) / "p").rename(place)
    return place / "usr" / "bin"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, for a state directory: each record of a journal is synced, for which a disk takes
    milliseconds. What launches and builds container images keeps its state on a disk."""
    with tempfile.TemporaryDirectory(prefix="vmtool-test-", dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def own_state(tmp_path: Path) -> Iterator[Vmtool]:
    """vmtool on a state directory of the test's own, with no image."""
    tool = Vmtool(tmp_path / "state")
    yield tool
    if tool.state.exists():
        tool("recover", status=None)
        shutil.rmtree(tool.state)
