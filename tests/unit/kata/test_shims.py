"""Kata's shims and the configuration file each reads: the shims' own rules, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from vmtool.kata.config_choice import ETC, RUST_DEFAULTS, ConfigChoice, choose_config, default_paths, resolve
from vmtool.kata.shims import read_kata
from vmtool.kata.which import read_which

USR = "/usr/share/defaults/kata-containers/configuration.toml"
OWN = "/srv/kata/gpu.toml"
GO = (ETC, USR)
SHIM = "/usr/local/bin/containerd-shim-kata-v2"
VERSION = 'Kata Containers containerd shim ({language}): id: "io.containerd.kata.v2", version: {version}, commit: 1\n'


def choose(files: dict[str, str] | None = None, links: dict[str, str] | None = None, **rules: Any) -> ConfigChoice:
    given: dict[str, Any] = {"defaults": GO, "rust": False, "version": "3.15.0", "option": None, "environment": None}
    return choose_config(Recorded({"texts": files or {}, "links": links or {}}), **(given | rules))


@pytest.mark.parametrize(("files", "rules", "path", "reason"), [
    ([ETC, USR, OWN], {}, ETC, "first default"),
    ([USR, OWN], {}, USR, "first default"),
    ([ETC, OWN], {"option": OWN}, OWN, "ConfigPath"),
    ([ETC, OWN], {"environment": OWN}, OWN, "KATA_CONF_FILE"),
    ([ETC, USR, OWN], {"option": OWN, "environment": USR}, OWN, "ConfigPath"),
    ([ETC, USR], {"environment": USR, "version": "4.1.0"}, USR, "KATA_CONF_FILE"),
    # The Rust shim is as strict as the Go shim, since the same release.
    ([OWN], {"environment": OWN, "version": "3.29.0", "rust": True, "defaults": RUST_DEFAULTS}, OWN, "KATA_CONF_FILE"),
    # The Rust shim asks the environment first.
    ([RUST_DEFAULTS[1], OWN], {"option": OWN, "environment": RUST_DEFAULTS[1], "rust": True,
                               "defaults": RUST_DEFAULTS}, RUST_DEFAULTS[1], "KATA_CONF_FILE"),
])
def test_order(files: list[str], rules: dict[str, Any], path: str, reason: str) -> None:
    choice = choose(dict.fromkeys(files, ""), **rules)
    assert (choice.path, choice.problem) == (path, "")
    assert reason in choice.reason


@pytest.mark.parametrize(("files", "rules", "problem"), [
    ([], {}, f"none of {ETC}, {USR} exists"),
    ([ETC], {"option": OWN}, f"{OWN} does not exist"),
    ([ETC, OWN], {"environment": OWN, "version": "4.0.0"}, "refuses a KATA_CONF_FILE that is none of its defaults"),
    ([ETC, OWN], {"environment": OWN, "version": None}, "refuses a KATA_CONF_FILE"),
    ([OWN], {"environment": OWN, "version": "4.0.0", "rust": True, "defaults": RUST_DEFAULTS},
     "refuses a KATA_CONF_FILE"),
])
def test_what_would_not_start(files: list[str], rules: dict[str, Any], problem: str) -> None:
    assert problem in choose(dict.fromkeys(files, ""), **rules).problem


def test_environment_may_name_a_link_to_a_default_file() -> None:
    choice = choose({ETC: "", USR: ""}, {OWN: USR}, environment=OWN, version="4.1.0")
    assert (choice.path, choice.problem) == (USR, "")


def test_drop_ins_lie_beside_the_resolved_file() -> None:
    files = {"/opt/kata/qemu.toml": "", "/opt/kata/config.d/20-b.toml": "", "/opt/kata/config.d/10-a.toml": "",
             "/opt/kata/config.d/README": "", "/etc/kata-containers/config.d/99.toml": ""}
    choice = choose(files, {ETC: "/opt/kata/qemu.toml"})
    assert choice.path == "/opt/kata/qemu.toml"
    assert choice.drop_ins == ("/opt/kata/config.d/10-a.toml", "/opt/kata/config.d/20-b.toml",
                               "/opt/kata/config.d/README"), "the shim reads every entry, whatever it is called"


def test_a_loop_of_links_ends() -> None:
    assert choose({}, {ETC: "b.toml", "/etc/kata-containers/b.toml": ETC}).path is not None


@pytest.mark.parametrize(("program", "rust", "paths"), [
    (SHIM, False, GO),
    ("/usr/bin/containerd-shim-kata-v2", False, GO),
    ("/opt/kata/bin/containerd-shim-kata-v2", False,
     (ETC, "/opt/kata/share/defaults/kata-containers/configuration.toml")),
    ("/opt/kata/runtime-rs/bin/containerd-shim-kata-v2", True, RUST_DEFAULTS),
])
def test_default_paths_by_prefix(program: str, rust: bool, paths: tuple[str, ...]) -> None:
    assert default_paths(Recorded({}), program, rust) == paths


def test_default_paths_are_asked_of_kata_runtime() -> None:
    asked = {"/usr/local/bin/kata-runtime --show-default-config-paths": {"out": "/a/x.toml\n/b/x.toml\n"}}
    assert default_paths(Recorded({"outputs": asked}), SHIM, False) == ("/a/x.toml", "/b/x.toml")


def shim_host(**tables: Any) -> Recorded:
    data: dict[str, Any] = {"names": {"/usr/local/bin": ["containerd-shim-kata-v2", "containerd-shim-runc-v2", "vim"]},
                            "texts": {ETC: "", OWN: ""},
                            "outputs": {f"{SHIM} --version": {"out": VERSION.format(language="Golang",
                                                                                    version="3.15.0")}}}
    for table, entries in tables.items():
        data[table] = {**data.get(table, {}), **entries}
    return Recorded(data)


def test_shim_tells_language_and_version() -> None:
    (shim,) = read_kata(shim_host(), "x86_64").shims
    assert (shim.runtime, shim.binary, shim.on_path) == ("io.containerd.kata.v2", SHIM, True)
    assert (shim.language, shim.version, shim.knows_virtcca) == ("Go", "3.15.0", None)
    assert shim.config.path == ETC


def test_script_of_kata_deploy() -> None:
    script = f"#!/usr/bin/env bash\nKATA_CONF_FILE={OWN} /opt/kata/bin/containerd-shim-kata-v2 \"$@\"\n"
    (shim,) = read_kata(shim_host(texts={SHIM: script}), "x86_64").shims
    assert (shim.wraps, shim.environment) == ("/opt/kata/bin/containerd-shim-kata-v2", OWN)
    assert (shim.config.path, shim.config.reason) == (OWN, "environment variable KATA_CONF_FILE")


def test_what_a_script_sets_beats_what_containerd_hands_on() -> None:
    script = f"#!/bin/sh\nKATA_CONF_FILE={OWN} /opt/kata/bin/containerd-shim-kata-v2 $@\n"
    host = shim_host(names={"/proc": ["77"]}, texts={SHIM: script, "/proc/77/comm": "containerd\n",
                                                    "/proc/77/environ": f"KATA_CONF_FILE={ETC}\0"})
    (shim,) = read_kata(host, "x86_64").shims
    assert shim.environment == OWN


def test_environment_of_the_running_containerd() -> None:
    host = shim_host(names={"/proc": ["1", "77", "self"]},
                     texts={"/proc/1/comm": "init\n", "/proc/77/comm": "containerd\n",
                            "/proc/77/environ": f"PATH=/usr/bin\0SECRET=x\0KATA_CONF_FILE={OWN}\0"})
    (shim,) = read_kata(host, "x86_64").shims
    assert shim.config.path == OWN


@pytest.mark.parametrize(("status", "knows"), [(0, True), (1, False), (2, None)])
def test_arm64_shim_is_searched_for_virtcca(status: int, knows: bool | None) -> None:
    search = f"grep --quiet --text --fixed-strings tmm-guest {SHIM}"
    (shim,) = read_kata(shim_host(outputs={search: {"status": status}}), "aarch64").shims
    assert shim.knows_virtcca is knows


def test_link_on_path_and_its_target_are_one_shim() -> None:
    target = "/opt/kata/bin/containerd-shim-kata-v2"
    host = shim_host(names={"/opt/kata/bin": ["containerd-shim-kata-v2"]}, links={SHIM: target})
    assert [shim.binary for shim in read_kata(host, "x86_64").shims] == [SHIM]


def test_shim_outside_of_path() -> None:
    host = Recorded({"names": {"/opt/kata/bin": ["containerd-shim-kata-v2"]}})
    (shim,) = read_kata(host, "x86_64").shims
    assert (shim.on_path, shim.version, shim.config.path) == (False, None, None)


CONFIG_2 = """version = 2
imports = ["conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
options = {ConfigPath = "/srv/kata/gpu.toml"}
"""
CONFIG_3 = """version = 3
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kata-clh]
runtime_type = "io.containerd.kata-clh.v2"
"""


def test_handlers_of_both_configuration_versions_and_imports() -> None:
    host = shim_host(texts={"/etc/containerd/config.toml": CONFIG_2, "/etc/containerd/conf.d/clh.toml": CONFIG_3,
                            "/etc/containerd/conf.d/broken.toml": "= nonsense"})
    kata, clh = read_kata(host, "x86_64").handlers
    assert (kata.name, kata.config_path, kata.source) == ("kata", OWN, "/etc/containerd/config.toml")
    assert kata.config is not None
    assert kata.config.path == OWN
    assert (clh.name, clh.source, clh.config) == ("kata-clh", "/etc/containerd/conf.d/clh.toml", None)


def test_imported_file_has_the_last_word_on_a_handler() -> None:
    again = CONFIG_2.replace("/srv/kata/gpu.toml", ETC).replace("imports", "# imports")
    host = shim_host(texts={"/etc/containerd/config.toml": CONFIG_2, "/etc/containerd/conf.d/again.toml": again})
    (kata,) = read_kata(host, "x86_64").handlers
    assert (kata.config_path, kata.source) == (ETC, "/etc/containerd/conf.d/again.toml")


@pytest.mark.parametrize("text", ["not toml [", "plugins = 3", "imports = 3", '[plugins."io.containerd.grpc.v1.cri"]\n'
                                  'containerd = "x"', "\x00\ufffd"])
def test_strange_containerd_configuration_has_no_handlers(text: str) -> None:
    assert read_kata(Recorded({"texts": {"/etc/containerd/config.toml": text}}), "x86_64").handlers == ()


def test_links_of_directories_are_followed_as_the_kernel_does() -> None:
    files = {"/srv/kata/2/configuration.toml": "", "/srv/kata/2/config.d/10": "", "/etc/kata-containers/config.d/x": ""}
    links = {"/etc/kata-containers": "../srv/kata/now", "/srv/kata/now": "2",
             "/srv/kata/2/link.toml": "configuration.toml"}
    assert choose(files | {"/etc/kata-containers/link.toml": ""}, links,
                  option="/etc/kata-containers/link.toml").path == "/srv/kata/2/configuration.toml"
    for path, real in (("/etc/kata-containers/x", "/srv/kata/2/x"), ("a/../b", "b"), ("/a//./b/", "/a/b")):
        assert resolve(Recorded({"links": links}), path) == real


@pytest.mark.parametrize(("entries", "problem"), [
    ({"/k/config.d/10.toml": "", "/k/config.d/old/10.toml": ""}, "/k/config.d/old is a directory"),
    ({"/k/config.d": "a file"}, "/k/config.d is no directory"),
    ({"/k/config.d/README": "", "/k/config.d/10.toml": ""}, ""),
])
def test_what_config_d_must_not_have(entries: dict[str, str], problem: str) -> None:
    host = Recorded({"texts": {"/k/c.toml": "", **entries}, "names": {"/k/config.d": ["old"]} if "old" in str(entries)
                     else {}})
    choice = choose_config(host, defaults=GO, rust=False, version="3.15.0", option="/k/c.toml", environment=None)
    assert problem in choice.problem if problem else not choice.problem


def test_a_drop_in_that_leads_nowhere() -> None:
    host = Recorded({"texts": {"/k/c.toml": ""}, "names": {"/k/config.d": ["gone"]}})
    choice = choose_config(host, defaults=GO, rust=False, version="3.15.0", option="/k/c.toml", environment=None)
    assert choice.problem == "/k/config.d/gone leads nowhere, and the shim reads every entry of config.d"


def test_a_handler_by_runtime_path_whatever_its_type() -> None:
    """kata-deploy names the shim by its path; the type may be anything, and the path a link."""
    text = """version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.vm]
runtime_type = "io.containerd.runc.v2"
runtime_path = "/srv/kata/bin/containerd-shim-kata-qemu-v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.linked]
runtime_type = "io.containerd.kata.v2"
runtime_path = "/usr/bin/kata-shim"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
    own = "/srv/kata/bin/containerd-shim-kata-qemu-v2"
    host = shim_host(texts={"/etc/containerd/config.toml": text, own: ""}, links={"/usr/bin/kata-shim": SHIM})
    found = read_kata(host, "x86_64")
    assert [shim.binary for shim in found.shims] == [SHIM, own]
    assert {handler.name: handler.shim and handler.shim.binary for handler in found.handlers} == {
        "vm": own, "linked": SHIM}


@pytest.mark.parametrize(("version", "language", "override"), [
    ("3.15.0", "Golang", True), ("3.30.0", "Golang", True), ("3.31.0", "Golang", False), ("4.1.0", "Golang", False),
    ("3.29.0", "Rust", False)])
def test_an_annotation_beats_the_file_of_old_shims(version: str, language: str, override: bool) -> None:
    host = shim_host(outputs={f"{SHIM} --version": {"out": VERSION.format(language=language, version=version)}})
    [reading] = read_which(host, read_kata(host, "x86_64"))
    assert (reading.override == "io.katacontainers.config_path") is override
    assert reading.language == {"Golang": "Go"}.get(language, language)


@pytest.mark.parametrize(("text", "names", "asked"), [
    ("version = 2\n", (), False), ("# nothing\n", (), False), ("imports = ['/x/*.toml']\n", (), True),
    ("version = 2\n", ("10.toml",), True), ("[x.kata]\n", (), True), ("runtime_path = '/x/mine'\n", (), True),
])
def test_containerd_is_asked_only_where_a_kata_shim_can_be_in_its_configuration(text: str, names: tuple[str, ...],
                                                                                asked: bool) -> None:
    dumped = ('version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.k]\n'
              'runtime_type = "io.containerd.kata.v2"\n')
    host = Recorded({"texts": {"/etc/containerd/config.toml": text}, "names": {"/etc/containerd/conf.d": list(names)},
                     "outputs": {"containerd --config /etc/containerd/config.toml config dump": {"out": dumped}}})
    assert [handler.name for handler in read_kata(host, "x86_64").handlers] == (["k"] if asked else [])
