"""Actions print as shell lines and survive the journal."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.kinds import KINDS
from vmtool import plan as p
from vmtool.containerd.endpoint import Endpoint
from vmtool.endpoint.client import Server

TEXT = st.text(max_size=20)
PATHS = st.text("abc/ '$\n", min_size=1, max_size=12).map(lambda text: Path("/" + text))
SERVERS = st.builds(Server, host=TEXT, port=st.integers(1, 65535), result=PATHS)
ENDPOINTS = st.builds(Endpoint, socket=PATHS, private=st.booleans())
VALUES = {Path: PATHS, str: TEXT, Server: SERVERS, Endpoint: ENDPOINTS, float: st.floats(0, 1e6),
          int: st.integers(0, 0o777),
          bool: st.booleans(),
          dict[str, Any]: st.dictionaries(TEXT, st.none() | TEXT | st.integers() | st.lists(TEXT)),
          tuple[str, ...]: st.lists(TEXT, min_size=1).map(tuple), p.Pairs: st.lists(st.tuples(TEXT, TEXT)).map(tuple)}


def actions(kind: type[p.Action]) -> st.SearchStrategy[p.Action]:
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if name in known}
    return st.builds(kind, **{name: _values(hint) for name, hint in hints.items()})


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    return VALUES.get(hint, st.none() | PATHS)


@pytest.mark.parametrize("kind", KINDS, ids=p.kind_of)
@given(data=st.data())
def test_every_action_comes_back_from_json_as_it_was(kind: type[p.Action], data: st.DataObject) -> None:
    action = data.draw(actions(kind))
    assert p.action_from_json(json.loads(json.dumps(p.to_json(action)))) == action


@pytest.mark.parametrize("kind", KINDS, ids=p.kind_of)
@given(data=st.data())
def test_every_action_prints_as_a_shell_line(kind: type[p.Action], data: st.DataObject) -> None:
    assert data.draw(actions(kind)).shell()


@pytest.mark.parametrize("record", [
    {}, {"kind": "Unheard"}, {"kind": "Remove"}, {"kind": "Remove", "path": "/x", "force": True},
    {"kind": "plan.Remove"}, {"kind": "plan.Step", "title": "x"}, {"kind": "plan.Path"}, {"kind": "attic.Remove"},
    {"kind": "net.Host"}, {"kind": "net.actions.CallPlugin"}, {"kind": "..os.system"}, {"kind": "gpu.Action"},
    {"kind": 7}, {"kind": "plan.Remove", "path": ["/x"]},
])
def test_an_unknown_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not an action of this vmtool"):
        p.action_from_json(record)


def test_a_plan_prints_titles_lines_and_why_a_step_is_skipped() -> None:
    plan = p.Plan("instance a", Path("/i/a"), (
        p.Step("make the directory", (p.MakeDir(Path("/i/a b")),)),
        p.Step("containerd", skip="it runs"),
        p.Step("start", (p.Run(("ctr", "run", "a;b"), env=(("A", "x y"),), stdin=Path("/in"), stdout=Path("/out")),)),
    ))
    assert list(p.plan_lines(plan)) == [
        "# 1. make the directory",
        "(umask 077; mkdir -p '/i/a b') && install -d -m 0700 -o 0 '/i/a b'",
        "# 2. containerd (nothing to do: it runs)",
        "# 3. start",
        "(umask 077; : >> /out); A='x y' ctr run 'a;b' < /in > /out",
    ]


def test_a_secret_prints_without_its_text() -> None:
    assert p.CopySecret(Path("/i/key"), 65532).shell() == (
        "[ -e /i/key ] || { (umask 077; mkdir -p /i) && openssl rand -hex 32 | "
        "install -m 0400 -o 65532 /dev/stdin /i/key; }")
    assert p.CopySecret(Path("/i/key"), 7, Path("/etc/key")).shell() == (
        "(umask 077; mkdir -p /i) && install -m 0400 -o 7 /etc/key /i/key")



def test_what_a_step_is_about_stands_in_no_document() -> None:
    """Documents and journals of earlier versions have no such field, and `plan --json` stays as it is."""
    step = p.Step("bind a", (p.Remove(Path("/x")),), subjects=("a",))
    assert p.to_json(step) == p.to_json(p.Step("bind a", (p.Remove(Path("/x")),)))
    assert "subjects" not in json.dumps(p.to_json(p.Plan("s", Path("/d"), (step,))))
