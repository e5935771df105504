"""Guest images for real: built twice, grown, tampered with, booted, and killed at every journal record.

The packages lie in the cache after the first run; every image is made again in a directory of the test's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kills import Pace, killed, machine_states, recorded
from tests.integration.machine import Vmtool, command, output
from tests.integration.rootfs_images import copied, make_toolkit, recipe
from vmtool.rootfs.format.digest import content_digest
from vmtool.rootfs.format.image_file import manifest_path, read_image
from vmtool.rootfs.metadata.manifest import read_manifest
from vmtool.rootfs.recipe.overlay import render

AGENT = "#!/bin/sh\nexec sleep 3600\n"
GIB = 1 << 30


@pytest.fixture(autouse=True)
def needs_root() -> None:
    if os.geteuid():
        pytest.skip("needs root: mmdebstrap runs in a chroot")


@pytest.fixture
def tool(memory: Path, tmp_path: Path) -> Iterator[Vmtool]:
    """vmtool on a state directory of the test's own. The machine is afterwards as it was before."""
    before = output("losetup", "-a")
    yield Vmtool(memory / "state")
    assert output("losetup", "-a") == before
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "rootfs/scratch" in line]
    assert not [line for pid in os.listdir("/proc") if pid.isdigit() for line in [command(pid)]
                if str(tmp_path) in line and "pytest" not in line]
    assert not list(tmp_path.rglob("*.vmtool-*"))


@pytest.fixture(scope="session")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package named like NVIDIA's, with a program that says what it was given."""
    return make_toolkit(tmp_path_factory.mktemp("toolkit"), "1.17.8-1")


@pytest.fixture(scope="session")
def kata_recipe(tmp_path_factory: pytest.TempPathFactory, toolkit: Path) -> Path:
    """A guest of Kata's with a hook."""
    directory = tmp_path_factory.mktemp("recipe")
    (directory / "kata-agent").write_text(AGENT)
    shutil.copy(toolkit, directory / "toolkit.deb")
    return recipe(directory, kata={"agent": "kata-agent"}, toolkit={"file": "toolkit.deb"}, hook={"kind": "prestart"},
                  users=[{"name": "app", "uid": 900}])


@pytest.fixture(scope="session")
def kata_image(kata_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once; tests work on copies."""
    directory = tmp_path_factory.mktemp("image")
    Vmtool(directory / "state")("rootfs", "build", kata_recipe, "-o", directory / "kata.img", timeout=900)
    return directory / "kata.img"


def test_two_builds_give_the_same_bytes_and_a_third_builds_nothing(tool: Vmtool, kata_recipe: Path, kata_image: Path,
                                                                   tmp_path: Path) -> None:
    cache = Path(os.environ.get("VMTOOL_CACHE") or Path.home() / ".cache" / "vmtool") / "rootfs"
    shutil.rmtree(cache / "images" / "rootfs-test")
    out = tmp_path / "again.img"
    tool("rootfs", "build", kata_recipe, "-o", out)
    assert subprocess.run(["cmp", out, kata_image]).returncode == 0
    for suffix in (".manifest.json", ".lock.json", ".spdx.json", ".vmlinuz"):
        assert out.with_name(out.name + suffix).read_bytes() == kata_image.with_name(
            kata_image.name + suffix).read_bytes()
    third = tool("rootfs", "build", kata_recipe, "-o", out)
    assert "the same input was built before" in third.err
    assert "it is there, with its manifest" in third.err


def test_everything_that_kata_needs_is_in_it(tool: Vmtool, kata_image: Path) -> None:
    found = tool("rootfs", "inspect", kata_image, "--json").json
    levels = {each["id"]: each["level"] for each in found["findings"]}
    assert {level for id, level in levels.items() if not id.startswith("driver.")} == {"ok"}
    assert found["image"]["kind"] == "kata-dax"
    assert found["contents"]["toolkit"] == "1.17.8-1"
    assert tool("rootfs", "verify", kata_image).out.count("✓") == 5


@pytest.mark.parametrize("changes", [
    {"layout": "bare", "verity": None, "size": "500Mi"}, {"layout": "kata", "verity": None},
    {"layout": "kata", "filesystem": "erofs"}, {"layout": "bare", "filesystem": "erofs", "verity": None}],
    ids=["bare", "kata", "erofs", "bare-erofs"])
def test_other_layouts_verify_and_can_be_looked_into(tool: Vmtool, tmp_path: Path, changes: dict[str, object]) -> None:
    out = tmp_path / "i.img"
    tool("rootfs", "build", recipe(tmp_path / "r", **changes), "-o", out)
    assert "✗" not in tool("rootfs", "verify", out).out
    found = tool("rootfs", "inspect", out, "--json").json
    assert found["contents"]["system"].startswith("Debian GNU/Linux 12")
    assert found["image"]["kind"] == changes["layout"]
    if changes.get("filesystem") == "erofs":
        assert "cannot grow" in tool("rootfs", "resize", out, "+1G", status=2).err


def test_a_grown_image_is_sparse_clean_and_verifies(tool: Vmtool, kata_image: Path, tmp_path: Path) -> None:
    image = copied(kata_image, tmp_path)
    before = read_image(image)
    tool("rootfs", "resize", image, "+1G")
    after = read_image(image)
    assert after.size == before.size + GIB
    assert after.allocated < before.allocated + (64 << 20)
    assert after.superblock and after.superblock.size > GIB
    assert "✗" not in tool("rootfs", "verify", image).out
    assert f"it has {after.size} bytes" in tool("rootfs", "resize", image, f"{after.size >> 20}M").err


def test_a_grown_bare_image_needs_no_manifest(tool: Vmtool, tmp_path: Path) -> None:
    image = tmp_path / "i.img"
    tool("rootfs", "build", recipe(tmp_path / "r", layout="bare", verity=None), "-o", image)
    image.with_name("i.img.manifest.json").unlink()
    tool("rootfs", "resize", image, "+1G")
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)


def test_one_changed_byte_has_exit_code_4(tool: Vmtool, kata_image: Path, tmp_path: Path) -> None:
    image = copied(kata_image, tmp_path)
    with image.open("r+b") as file:
        file.seek(200 << 20)
        byte = file.read(1)
        file.seek(200 << 20)
        file.write(bytes([byte[0] ^ 1]))
    told = tool("rootfs", "verify", image, status=4)
    assert "✗ bytes" in told.out and "✗ dm-verity root hash" in told.out


def test_a_truncated_image_is_left_as_it_is(tool: Vmtool, kata_image: Path, tmp_path: Path) -> None:
    image = copied(kata_image, tmp_path)
    os.truncate(image, 300 << 20)
    assert "truncated" in tool("rootfs", "resize", image, "+1G", status=2).err
    assert "truncated" in tool("rootfs", "inspect", image, status=2).err
    assert image.stat().st_size == 300 << 20


def test_an_image_in_use_is_refused_and_its_user_named(tool: Vmtool, kata_image: Path, tmp_path: Path) -> None:
    image = copied(kata_image, tmp_path)
    with image.open("rb"):
        refused = tool("rootfs", "resize", image, "+1G", status=3)
    assert f"(pid {os.getpid()}) has it open" in refused.err


@pytest.fixture(scope="module")
def booted(kata_image: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What vmtool says of a guest that was booted for real, and the guest's console."""
    state, before = tmp_path_factory.mktemp("boot") / "state", kata_image.stat().st_mtime_ns
    told = Vmtool(state)("rootfs", "boot", kata_image, timeout=600).out
    assert kata_image.stat().st_mtime_ns == before
    [console] = state.glob("rootfs/image-*/console.log")
    return told, console.read_text(errors="replace")


def test_the_guest_boots_and_has_its_hook_and_agent(booted: tuple[str, str]) -> None:
    for line in ("✓ root file system", "✓ kata-containers.target: active", "✓ kata-agent.service: active",
                 "✓ hook /usr/share/oci/hooks/prestart/nvidia-container-toolkit.sh: executable"):
        assert line in booted[0]


# A guest that says again what another said: in the place of QEMU, for one vmtool.
AGAIN = """
qemu=$1
shift
mount --make-rprivate /
mount --bind "$qemu" "$(command -v qemu-system-x86_64)"
exec "$@"
"""
QEMU = """#!/bin/sh
while [ "$1" != -serial ]; do shift; done
cp {said} "${{2#file:}}"
"""


def test_a_missing_promise_has_exit_code_4(tool: Vmtool, kata_image: Path, booted: tuple[str, str],
                                           tmp_path: Path) -> None:
    """The guest that was booted says of its hook what it would say of a missing one: see the next test."""
    manifest, said, qemu = tmp_path / "m.json", tmp_path / "said", tmp_path / "qemu"
    text = kata_image.with_name(f"{kata_image.name}.manifest.json").read_text()
    manifest.write_text(text.replace("nvidia-container-toolkit.sh", "another.sh"))
    assert "VMTOOL-REPORT hook executable" in booted[1]
    said.write_text(booted[1].replace("VMTOOL-REPORT hook executable", "VMTOOL-REPORT hook absent"))
    qemu.write_text(QEMU.format(said=said))
    qemu.chmod(0o755)
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", AGAIN, "sh", qemu,
                           *tool.argv("rootfs", "boot", kata_image, "--manifest", manifest)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 4, done.stderr
    assert "✗ hook /usr/share/oci/hooks/prestart/another.sh: absent, promised is executable" in done.stdout


@pytest.mark.parametrize("how", ["absent", "link", "not-executable", "executable"])
def test_the_guest_says_how_its_hook_is(tmp_path: Path, how: str) -> None:
    hook = tmp_path / "hook.sh"
    if how == "link":
        hook.symlink_to("/bin/true")
    elif how != "absent":
        hook.touch(0o755 if how == "executable" else 0o644)
    probe = render("boot-probe.sh", mark="MARK", units=(), hook=hook, modules=())
    lines = probe[probe.index("if [ -h"):probe.index("say failed")]
    done = subprocess.run(["sh", "-euc", f'say() {{ echo "$*"; }}\n{lines}'], capture_output=True, text=True)
    assert done.stdout == f"hook {how}\n", done.stderr


def test_a_hook_and_a_file_are_put_into_an_image_that_is_there(tool: Vmtool, tiny_image: Path, tmp_path: Path) -> None:
    image = copied(tiny_image, tmp_path)
    assert "! prestart hook" in tool("rootfs", "inspect", image).out
    tool("rootfs", "add", "hook", image)
    (tmp_path / "motd").write_text("hello\n")
    for text in ("hello\n", "again, longer\n"):
        (tmp_path / "motd").write_text(text)
        tool("rootfs", "add", "file", image, "/etc/new/motd", tmp_path / "motd", "--mode", "0640")
    told = tool("rootfs", "inspect", image).out
    assert "\u2713 hook nvidia-container-toolkit.sh" in told
    assert "\u2717" not in tool("rootfs", "verify", image).out
    found = read_image(image)
    assert found.rootfs
    seen = subprocess.run(["debugfs", "-R", "cat /etc/new/motd", f"{image}?offset={found.rootfs.start}"],
                          capture_output=True, text=True, check=True)
    assert seen.stdout == "again, longer\n"
    promised = read_manifest(manifest_path(image)).promises.hook
    assert promised == "/usr/share/oci/hooks/prestart/nvidia-container-toolkit.sh"
    assert image.stat().st_size == tiny_image.stat().st_size


def test_nothing_is_put_over_a_directory_or_into_erofs(tool: Vmtool, tiny_image: Path, tmp_path: Path) -> None:
    image = copied(tiny_image, tmp_path)
    before = content_digest(image)
    failed = tool("rootfs", "add", "file", image, "/etc", image.with_name(f"{image.name}.lock.json"), status=1)
    assert "did not get into the image" in failed.err
    assert content_digest(image) == before


def test_the_hook_hands_the_state_on_and_leaves_a_trace(kata_recipe: Path, tmp_path: Path) -> None:
    toolkit, trace = tmp_path / "toolkit", tmp_path / "trace"
    toolkit.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncat > {tmp_path}/state\nexit 3\n')
    toolkit.chmod(0o755)
    hook = tmp_path / "hook.sh"
    hook.write_text(render("prestart-hook.sh", toolkit=toolkit, trace=trace))
    hook.chmod(0o755)
    state = '{"ociVersion":"1.0","id":"c-1","pid":7}'
    done = subprocess.run([hook, "prestart"], input=state, text=True, capture_output=True, timeout=30)
    assert done.returncode == 3
    assert (tmp_path / "state").read_text() == state
    assert (tmp_path / "args").read_text() == "-debug prestart\n"
    assert trace.read_text() == "vmtool-hook: container=c-1 status=3\n"


@pytest.mark.slow
def test_a_toolkit_with_a_known_hole_is_refused(tool: Vmtool, tmp_path: Path) -> None:
    directory = tmp_path / "r"
    directory.mkdir()
    shutil.move(make_toolkit(tmp_path, "1.17.3-1"), directory / "toolkit.deb")
    path = recipe(directory, toolkit={"file": "toolkit.deb"})
    refused = tool("rootfs", "build", path, "-o", tmp_path / "i.img", status=2, timeout=900)
    assert "1.17.3-1 is refused" in refused.err
    assert not list(tmp_path.glob("i.img*"))


@pytest.mark.parametrize(("changes", "status", "message"), [
    pytest.param({"packages": ["no-such-package-anywhere"]}, 1, "no-such-package-anywhere", id="package",
                 marks=pytest.mark.slow),
    ({"size": "128Mi"}, 1, "ould not"), ({"units": {"enable": ["absent.service"]}}, 2, "absent.service is in none"),
    ({"debian": {"suite": "bookworm", "repositories": [
        {"name": "l", "source": "file:///no/such/repository ./", "unsigned": True}]}}, 1, "/no/such/repository"),
], ids=[None, "no-space", "unit", "repository"])
def test_what_cannot_be_built_is_told_and_leaves_nothing(tool: Vmtool, tmp_path: Path, changes: dict[str, object],
                                                         status: int, message: str) -> None:
    path = recipe(tmp_path / "r", **changes)
    failed = tool("rootfs", "build", path, "-o", tmp_path / "i.img", status=status, timeout=900)
    assert message in failed.err
    assert not list(tmp_path.glob("i.img*"))


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No kernel and no systemd: quick to make many times."""
    return recipe(tmp_path_factory.mktemp("tiny"), name="rootfs-tiny", packages=[], kernel=None, units={}, size="384Mi")


@pytest.fixture(scope="session")
def tiny_image(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny-image")
    Vmtool(directory / "state")("rootfs", "build", tiny_recipe, "-o", directory / "tiny.img", timeout=900)
    return directory / "tiny.img"


@pytest.mark.timing
def test_a_build_killed_at_any_action_leaves_nothing(tool: Vmtool, tiny_recipe: Path, tiny_image: Path,
                                                     tmp_path: Path, pace: Pace) -> None:
    cache = Path(os.environ.get("VMTOOL_CACHE") or Path.home() / ".cache" / "vmtool") / "rootfs"
    out, made = tmp_path / "i.img", cache / "images" / "rootfs-tiny"
    build = ("rootfs", "build", tiny_recipe, "-o", out)

    def from_nothing() -> None:
        shutil.rmtree(made, ignore_errors=True)
        for path in tmp_path.glob("i.img*"):
            path.unlink()

    # The cache may have the image without what it was made from, which then is there before each kill.
    from_nothing()
    tool(*build)
    from_nothing()
    points = machine_states(recorded(tool, *build))
    assert subprocess.run(["cmp", out, tiny_image]).returncode == 0
    assert len(points) > 20
    [exchange] = [number for number, point in enumerate(points) if point == f"step write {out.name}\n"]
    # From then on files are exchanged, which test_rootfs_add.py stops at each action without building anything.
    for point in (*pace.some(points[:exchange]), *pace.some(points[exchange::3])):
        from_nothing()
        assert killed(tool, point, *build), point
        tool("recover")
        assert not list((cache / "scratch").glob("rootfs-tiny*")), point
        assert not list(tmp_path.glob(".*.vmtool-*")), point
        # An image never without its metadata files, nor papers without an image.
        assert len(list(tmp_path.glob("i.img*"))) in (0, 4), point
    from_nothing()
    tool(*build)
    assert subprocess.run(["cmp", out, tiny_image]).returncode == 0


@pytest.mark.slow
def test_nvidias_open_modules_are_compiled_for_the_guests_kernel(tool: Vmtool, tmp_path: Path) -> None:
    out = tmp_path / "nv.img"
    tool("rootfs", "build", "rootfs-debian-nvidia", "-o", out, timeout=3600)
    found = tool("rootfs", "inspect", out, "--json").json
    modules = {each["path"].rpartition("/")[2]: each for each in found["contents"]["modules"]}
    assert {"nvidia.ko", "nvidia-uvm.ko", "nvidia-modeset.ko", "nvidia-drm.ko"} <= modules.keys()
    assert {each["vermagic"].partition(" ")[0] for each in modules.values()} == set(found["contents"]["kernels"])
    told = tool("rootfs", "boot", out, timeout=900)
    assert "✓ module nvidia: 6." in told.out
    assert "✓ module nvidia, its dependencies: yes" in told.out


@pytest.mark.slow
def test_a_driver_that_does_not_fit_the_kernel_is_told_in_the_compilers_words(tool: Vmtool, tmp_path: Path) -> None:
    path = recipe(tmp_path / "r", name="rootfs-misfit", debian={"suite": "trixie", "components": ["main", "contrib"]},
                  kernel={"package": "linux-image-amd64"}, driver={"packages": ["nvidia-open-kernel-dkms"]},
                  size="1Gi")
    failed = tool("rootfs", "build", path, "-o", tmp_path / "i.img", status=1, timeout=3600)
    assert "does not compile for the kernel 6.12" in failed.err
    assert "error: " in failed.err
    assert not list(tmp_path.glob("i.img*"))


@pytest.mark.slow
def test_an_arm64_image_is_built_on_amd64_and_boots(tool: Vmtool, tmp_path: Path) -> None:
    if not shutil.which("qemu-aarch64-static"):
        pytest.skip("needs qemu-user-static: scripts/setup --test")
    path = recipe(tmp_path / "r", name="rootfs-arm64", arch="arm64", layout="bare", verity=None,
                  kernel={"package": "linux-image-cloud-arm64"})
    out = tmp_path / "i.img"
    tool("rootfs", "build", path, "-o", out, timeout=1800)
    assert "\u2717" not in tool("rootfs", "verify", out).out
    told = tool("rootfs", "boot", out, timeout=1800)
    assert "\u2713 multi-user.target: active" in told.out
    assert not list(Path("/tmp").glob("vmtool-rootfs-*"))
