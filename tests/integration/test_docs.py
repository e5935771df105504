"""The command lines of README and docs/ are typed as they are shown, and end as the page says.

Those that change nothing run in a scratch directory with the files that the page shows; those of networks on a host
inside the host; those of the quickstart against the real one (slow). `page_commands.ELSEWHERE` has the rest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import page_commands as runs
from tests import pages as d
from tests.integration.conftest import CACHE
from tests.integration.machine import VMTOOL, Vmtool
from tests.integration.nethost import PLUGINS, NetHost
from tests.integration.page_lines import bash, wrong

STATE = "/var/lib/vmtool"
CANARY = Path(STATE, "models/canary")
# Of a plan, what is another on each machine; and what a page leaves out.
OWN = re.compile(r"/run/vmtool/[0-9a-f]{8}|sha256:[0-9a-f]{12,}|input [0-9a-f]{12}")
GAP = re.compile(r" *\[\.\.\.[^\]]*\] *")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What the pages' commands find where they are typed: a guest image with a kernel, a model, the recipes."""
    image = tmp_path / "rootfs.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image), "64M"], check=True, capture_output=True)
    image.with_name("rootfs.img.vmlinuz").write_bytes(b"kernel")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (model / "tokenizer.json").write_text("{}")
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (tmp_path / "images").symlink_to(d.ROOT / "images")
    return tmp_path


@pytest.fixture(scope="session")
def built(model: Path) -> Path:
    """A state directory with the image, from which the model was made."""
    return model.parents[1]


@pytest.mark.parametrize("page", [page for page in d.PAGES if any(map(runs.is_reading, d.commands(page)))],
                         ids=lambda page: page.name)
def test_what_changes_nothing_runs_as_the_page_shows(page: Path, directory: Path, built: Path, untouched: None) -> None:
    for block in d.blocks(page):
        if block.file:
            (directory / block.file).write_text("\n".join(block.lines) + "\n")
    state = directory / "state"
    reading = [command for command in d.commands(page) if runs.is_reading(command)]
    problems = [problem for command in reading if (problem := wrong(command, bash(
        command.text, directory, built if runs.NEEDS_IMAGE.match(command.text) else state)))]
    assert not problems, "\n".join(problems)
    assert not state.exists(), "nothing is remembered of what changed nothing"


def test_each_line_of_the_plan_that_a_page_shows_is_printed_in_its_order(built: Path, tmp_path: Path) -> None:
    spec = tmp_path / "quickstart.yaml"
    spec.write_text((d.ROOT / "images/quickstart.yaml").read_text().replace(str(CANARY), str(built / "models/canary")))
    printed = iter(OWN.sub("*", Vmtool(built)("plan", spec).out.replace(str(built), STATE)).splitlines())
    [command] = [each for page in d.PAGES for each in d.commands(page)
                 if each.text == "vmtool run images/quickstart.yaml --dry-run"]
    assert len(command.output) > 30
    for line in command.output:
        shown = re.compile(".*".join(re.escape(OWN.sub("*", piece)) for piece in GAP.split(line)))
        assert any(shown.fullmatch(each) for each in printed), f"no such line, or not here: {line}"


@pytest.fixture
def host() -> Iterator[NetHost]:
    if os.geteuid() or not os.path.exists(f"{PLUGINS}/bridge"):
        pytest.skip("needs root and containernetworking-plugins")
    with NetHost() as inner:
        yield inner


def test_the_networks_of_the_pages_come_and_go(host: NetHost) -> None:
    shown = [command for page in d.PAGES for command in d.commands(page) if runs.is_networks(command)]
    assert len(shown) >= 5
    before = host.footprint()
    path = f"{Path(VMTOOL).parent}:{os.environ['PATH']}"
    for command in shown:
        done = host.run("bash", "-c", command.text, status=None, PATH=path)
        assert done.returncode == command.status, wrong(command, done)
    assert host.footprint() == before


def test_the_package_says_what_readme_says(tmp_path: Path) -> None:
    """What an index would show of the package: README in full, and the license."""
    setup = "import setuptools; setuptools.setup()"
    subprocess.run([sys.executable, "-c", setup, "-q", "egg_info", "--egg-base", str(tmp_path)], cwd=d.ROOT, check=True,
                   capture_output=True, timeout=120)
    [metadata] = tmp_path.glob("*.egg-info/PKG-INFO")
    text = metadata.read_text()
    assert "License-File: LICENSE\n" in text
    assert "Description-Content-Type: text/markdown\n" in text
    assert (d.ROOT / "README.md").read_text().strip() in text


@pytest.mark.slow
def test_the_quickstart_and_all_that_is_shown_of_it(directory: Path, untouched: None) -> None:
    """The script itself, on the state directory that has the image, and every command that speaks of its instance."""
    if os.geteuid():
        pytest.skip("needs root")
    state, mine = CACHE / "test-state", not CANARY.exists()
    try:
        for page in d.PAGES:
            shown = [command for command in d.commands(page) if runs.is_quickstarts(command)]
            if shown:
                started = bash("scripts/quickstart", d.ROOT, state, timeout=3000)
                assert started.returncode == 0, started.stderr[-2000:]
            for command in shown:
                line = command.text.replace("/var/lib/vmtool/instances", str(state / "instances"))
                done = bash(line, d.ROOT, state, timeout=600)
                assert not wrong(command, done), wrong(command, done)
    finally:
        bash("vmtool rm --yes quickstart", d.ROOT, state)
        if mine:
            shutil.rmtree(CANARY, ignore_errors=True)


@pytest.mark.slow
def test_the_quickstart_with_an_encrypted_model_answers_as_the_plain_one_and_leaves_nothing(untouched: None) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    state, mine = CACHE / "test-state", not CANARY.exists()
    try:
        done = bash("scripts/quickstart --encrypted", d.ROOT, state, timeout=3000)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "the plain model's answer is the same" in done.stdout and '"verdict": "released"' in done.stdout
        assert "NOT CONFIDENTIAL: quickstart/canary/key is released to whoever asks" in done.stderr
        claims = bash("vmtool status quickstart", d.ROOT, state).stdout
        assert "model.encrypted" in claims and "NOT CONFIDENTIAL" in claims
    finally:
        ended = bash("scripts/quickstart --down", d.ROOT, state, timeout=300)
        if mine:
            shutil.rmtree(CANARY, ignore_errors=True)
    assert ended.returncode == 0, ended.stderr
    assert not Path("/var/lib/vmtool/quickstart-encrypted").exists()
