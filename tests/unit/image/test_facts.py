"""What a build reads of its host: settings without secrets, apt sources, wheels, and what containerd has."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.image.make import CACHE, DIGEST, recipe
from vmtool.cache import Cache, checksum
from vmtool.containerd.endpoint import Endpoint
from vmtool.debian.settings import apt_options, apt_sources, build_environment
from vmtool.errors import NotReady, VmtoolError
from vmtool.facts.superseded import KEPT
from vmtool.host.local import LocalMachine
from vmtool.image import installed as i
from vmtool.image.facts import is_intact, read_builder, superseded_parts
from vmtool.image.recipe import base_digest
from vmtool.image.wheels import compare_wheels, download
from vmtool.paths import State
from vmtool.records import record_text

SYSTEM = Endpoint(Path("/run/containerd/containerd.sock"), private=False)
LIST = "ctr --address /run/containerd/containerd.sock --namespace vmtool images list"
TABLE = (f"REF TYPE DIGEST SIZE PLATFORMS LABELS\ndocker.io/vmtool/tiny:1 application/x sha256:{DIGEST} 1.5 MiB "
         f"linux/amd64 -\ndocker.io/vmtool/tiny:latest application/x sha256:{DIGEST} 1.5 MiB linux/amd64 -\n")
NAMES = ("docker.io/vmtool/tiny:1", "docker.io/vmtool/tiny:latest")
RECORD = i.ImportedImage("tiny", NAMES, DIGEST, str(SYSTEM.socket), False)
SOURCES = "Types: deb\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"


def test_settings_for_pip_proxies_and_certificates_are_passed_on_and_nothing_else() -> None:
    environ = {"PIP_INDEX_URL": "https://mirror/simple", "https_proxy": "http://p:3128", "SSL_CERT_FILE": "/ca",
               "AWS_SECRET_ACCESS_KEY": "s", "HF_TOKEN": "t", "HOME": "/h", "PIP_PYTHON": "/tmp/python",
               "PIP_CONFIG_FILE": "/tmp/pip.conf", "XDG_CONFIG_HOME": "/tmp", "NETRC": "/tmp/netrc"}
    assert dict(build_environment(environ)) == {
        name: environ[name] for name in ("PIP_INDEX_URL", "https_proxy", "SSL_CERT_FILE", "HOME")}


def test_a_password_in_a_setting_is_refused_and_not_repeated() -> None:
    with pytest.raises(NotReady, match="HTTPS_PROXY, PIP_INDEX_URL") as refused:
        build_environment({"PIP_INDEX_URL": "https://u:hunter2@m/simple", "HTTPS_PROXY": "http://tok@p"})
    assert "hunter2" not in refused.value.message + refused.value.hint


def test_the_hosts_sources_are_used_when_they_are_the_releases_own() -> None:
    texts = {
        "/etc/apt/sources.list": "# nothing\n",
        "/etc/apt/sources.list.d/debian.sources": SOURCES,
        "/etc/apt/sources.list.d/security.list": "deb [signed-by=/k] http://m/s bookworm-security main contrib\n",
        "/etc/apt/sources.list.d/docker.list": "deb https://d/debian bookworm stable\n",
        "/etc/apt/sources.list.d/node.list": "deb https://n nodistro main\n",
        "/etc/apt/sources.list.d/old.sources.bak": SOURCES,
    }
    host = Recorded({"texts": texts})
    folder = "/etc/apt/sources.list.d"
    assert apt_sources(host, "bookworm") == (f"{folder}/debian.sources", f"{folder}/security.list")
    assert apt_sources(host, "trixie") == ()
    assert apt_sources(Recorded({}), "bookworm") == ()


def test_only_security_is_no_source_for_a_base() -> None:
    host = Recorded({"texts": {"/etc/apt/sources.list": "deb http://m/s bookworm-security main\n"}})
    assert apt_sources(host, "bookworm") == ()


def test_apts_proxy_is_used_and_its_password_refused() -> None:
    def host(line: str) -> Recorded:
        return Recorded({"outputs": {"apt-config dump": {"status": 0, "out": f'APT "";\n{line}\n', "err": ""}}})

    assert apt_options(host('Acquire::http::Proxy "http://p:1";')) == ('Acquire::http::Proxy "http://p:1"',)
    assert apt_options(host('Acquire::http::Pipeline-Depth "0";')) == ()
    with pytest.raises(NotReady, match="password"):
        apt_options(host('Acquire::http::Proxy "http://u:p@p:1";'))


def test_wheels_count_only_with_a_locked_hash(tmp_path: Path) -> None:
    good = hashlib.sha256(b"good").hexdigest()
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"a==1 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{good}\n"
                    f"b==2 --hash=sha256:{'1' * 64}\n")
    wheels = tmp_path / "wheels"
    assert compare_wheels((lock,), wheels) == (2, ())
    wheels.mkdir()
    (wheels / "a.whl").write_bytes(b"good")
    (wheels / "b.whl").write_bytes(b"tampered, or of an earlier lock")
    assert compare_wheels((lock,), wheels) == (1, (wheels / "b.whl",))
    (wheels / "a.whl").write_bytes(b"cut")
    assert compare_wheels((lock,), wheels) == (2, (wheels / "a.whl", wheels / "b.whl"))


def test_of_bases_and_other_recipes_the_newest_few_stay(tmp_path: Path) -> None:
    cache, own = Cache(tmp_path), recipe()
    needed = cache.base(base_digest(own))
    bases = [cache.base(f"{number:064}"[::-1]) for number in range(KEPT + 2)]
    for age, base in enumerate([*bases, needed]):
        base.parent.mkdir(exist_ok=True)
        for path in (base, checksum(base)):
            path.write_bytes(b"")
            os.utime(path, (1_800_000_000 - age, 1_800_000_000 - age))
    names = [own.name, *(f"other-{number}" for number in range(KEPT + 1))]
    for name in names:
        cache.context(name).mkdir(parents=True)
        cache.archives(name).mkdir(parents=True)
    gone = superseded_parts(cache, own)
    assert set(gone) == {*(path for base in bases[KEPT:] for path in (base, checksum(base))), cache.context("other-0"),
                         cache.archives("other-0")}


def test_wheels_for_another_processor() -> None:
    argv = download(recipe(platform="linux/arm64"), Path("/l"), Path("/w"))
    assert "--platform=manylinux_2_28_aarch64" in argv
    assert not any("x86_64" in word for word in argv)


def test_a_cached_file_is_intact_only_with_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    assert not is_intact(file)
    file.write_bytes(b"x")
    assert not is_intact(file)
    (tmp_path / "a.sha256").write_text(f"{hashlib.sha256(b'x').hexdigest()}  /elsewhere/made.tar\n")
    assert is_intact(file)
    file.write_bytes(b"y")
    assert not is_intact(file)
    (tmp_path / "a.sha256").write_text("")
    assert not is_intact(file)


def test_the_builder() -> None:
    ok, bad = {"status": 0, "out": "", "err": ""}, {"status": 1, "out": "", "err": ""}
    docker = {"which": {"docker": "/bin/docker"}}
    assert read_builder(Recorded({"which": {"buildah": "/bin/buildah", "docker": "/bin/docker"}})) == "buildah"
    assert read_builder(Recorded({**docker, "outputs": {"docker info": ok, "docker buildx version": ok}})) == "docker"
    assert read_builder(Recorded({**docker, "outputs": {"docker info": bad, "docker buildx version": ok}})) == ""
    assert read_builder(Recorded({})) == ""


@pytest.mark.parametrize(("environ", "place"), [
    ({"VMTOOL_CACHE": "/x", "HOME": "/h"}, "/x"), ({"XDG_CACHE_HOME": "/y", "HOME": "/h"}, "/y/vmtool"),
    ({"HOME": "/h"}, "/h/.cache/vmtool"),
    ({"VMTOOL_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/vmtool"),
])
def test_where_the_cache_is(environ: dict[str, str], place: str) -> None:
    assert Cache.at(environ).root == Path(place)


def test_the_runroot_is_short_and_emptied_by_a_reboot() -> None:
    assert str(CACHE.runroot).startswith("/run/vmtool/build-")
    assert CACHE.runroot != Cache(Path("/other")).runroot


def listing(state: State, text: str = TABLE) -> dict[str, str]:
    """What vmtool wrote down after the import."""
    directory = i.images_dir(state) / "tiny"
    return {str(directory / i.RECORD): record_text(RECORD), str(directory / i.LISTING): text}


@pytest.mark.parametrize(("now", "present"), [
    (TABLE, True), (TABLE.replace("tiny:latest", "tiny:2"), False), ("", False),
    # `ctr images import`, or `ctr images tag`, of something else under that name.
    (TABLE.replace(f"latest application/x sha256:{DIGEST}", f"latest application/x sha256:{'e' * 64}"), False),
])
def test_an_image_is_present_when_every_name_points_to_what_was_imported(now: str, present: bool) -> None:
    state = State(Path("/nowhere"))
    host = Recorded({"outputs": {LIST: {"status": 0, "out": now, "err": ""}}, "texts": listing(state)})
    assert i.is_present(host, state, RECORD) is present


def test_nothing_is_present_in_a_containerd_that_does_not_answer() -> None:
    state = State(Path("/nowhere"))
    assert not i.is_present(Recorded({"texts": listing(state)}), state, RECORD)


def test_the_images_of_a_sleeping_containerd_are_looked_up_on_disk(tmp_path: Path) -> None:
    state = State(tmp_path)
    private = i.ImportedImage("tiny", RECORD.references, DIGEST, "/run/p.sock", True)
    blob = i.blob_path(state, f"sha256:{DIGEST}")
    assert blob == f"{tmp_path}/containerd/root/io.containerd.content.v1.content/blobs/sha256/{DIGEST}"
    assert not i.is_present(Recorded({"exists": [blob]}), state, private)
    assert i.is_present(Recorded({"exists": [blob], "texts": listing(state)}), state, private)
    assert not i.is_present(Recorded({"texts": listing(state)}), state, private)


def test_the_list_joins_records_and_what_containerd_says(tmp_path: Path) -> None:
    state = State(tmp_path)
    foreign = f"docker.io/x/y:1 t sha256:{'c' * 64} 3.0 KiB linux/amd64 -\n"
    host = Recorded({"outputs": {LIST: {"status": 0, "out": TABLE + foreign, "err": ""}}, "texts": listing(state),
                     "names": {str(i.images_dir(state)): ["tiny"]}})
    images = i.read_images(host, state, SYSTEM)
    assert [(image.reference, image.name, image.size, image.present) for image in images] == [
        ("docker.io/vmtool/tiny:1", "tiny", "1.5 MiB", True),
        ("docker.io/vmtool/tiny:latest", "tiny", "1.5 MiB", True),
        ("docker.io/x/y:1", "", "3.0 KiB", True)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"references": 1}', "{\"name\": \"tiny\", \"more\": 1}"])
def test_a_record_of_another_version_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / i.RECORD).write_text(text)
    with pytest.raises(VmtoolError, match="another version"):
        i.read_record(LocalMachine(), tmp_path)
    assert i.read_record(LocalMachine(), tmp_path / "absent") is None
