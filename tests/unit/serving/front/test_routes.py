"""The table of routes: what is found in it, and that README says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmtool.serving.front.routes import ROUTES, find, methods

README = (Path(__file__).parents[4] / "README.md").read_text()


@pytest.mark.parametrize(("method", "target", "asked", "word"), [
    ("POST", "/v1/chat/completions", "/v1/chat/completions", ""),
    ("POST", "/v1/messages?beta=true", "/v1/messages", ""),
    ("GET", "/v1/models/org/model%20x", "/v1/models/org/model%20x", "org/model x"),
    ("GET", "/v1/responses/resp_0a-1?stream=true&x=1", "/v1/responses/resp_0a-1?stream=true", "resp_0a-1"),
    ("POST", "/v1/responses/r/cancel", "/v1/responses/r/cancel", "r"),
    ("GET", "/v1/responses/r?stream=true" + "&a" * 63, "/v1/responses/r?stream=true", "r"),
    ("POST", "/v1/completions?a" + "&a" * 99, "/v1/completions", ""),
])
def test_a_route_is_found_with_what_vllm_is_asked(method: str, target: str, asked: str, word: str) -> None:
    match = find(method, target)
    assert match
    assert (match.target, match.word) == (asked, word)


@pytest.mark.parametrize(("method", "target"), [
    ("GET", "/v1/chat/completions"), ("POST", "/v1/models"), ("GET", "/v1/models/"), ("GET", "//v1/models"),
    ("GET", "/v1/responses/.."), ("GET", "/v1/responses/a/b"), ("GET", "/v1/responses/a%2fb"), ("GET", "/metrics"),
    ("GET", "/v1/responses/ä"), ("GET", "/v1/responses/a\n"), ("GET", "http://x/v1/models"), ("GET", ""), ("GET", "*"),
    ("get", "/v1/models"), ("GET", "/v1/responses/" + "a" * 129), ("POST", "/v1/responses/a/cancel/"),
    ("GET", "/v1/responses/r?a" + "&a" * 64),
])
def test_everything_else_is_no_route(method: str, target: str) -> None:
    assert find(method, target) is None


def test_the_methods_of_a_path_are_known() -> None:
    assert methods("/health?x") == ("GET", "HEAD")
    assert methods("/v1/models/a") == ("GET",)
    assert methods("/metrics") == ()


def test_readme_lists_each_route_and_who_may_call_it() -> None:
    listed = {(route, cells[2].strip()) for line in README.splitlines() if len(cells := line.split("|")) == 5
              for route in re.findall(r"`((?:GET|HEAD|POST|PUT|DELETE|PATCH) /[^`]*)`", cells[1])}
    assert listed == {(str(route), "a key" if route.keyed else "anybody") for route in ROUTES}
