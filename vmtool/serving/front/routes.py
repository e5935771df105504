"""Which requests are served, and for whom: one table, which README repeats."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode

from vmtool.serving.evidence.binding import PATH as EVIDENCE

# Letters of a segment that vLLM's router and this one read alike: no percent sign, no second way to write a path.
ID = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
# A model's name is compared with the list, and goes no further, so that it may hold slashes and percent-encodings.
MODEL = "[A-Za-z0-9%._~:@!$&'()*+,;=/-]{1,512}"


@dataclass(frozen=True)
class Route:
    """What may be asked for.

    Args:
        method: HTTP method.
        path: as vLLM knows it; {id} and {model} stand for a word of the client's.
        keyed: whether it needs a key.
        query: names in the query string that are passed on; all others end here.
        counted: its text is counted in tokens, however long it is.
    """

    method: str
    path: str
    keyed: bool = True
    query: tuple[str, ...] = ()
    counted: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ROUTES = (
    Route("GET", "/health", keyed=False),
    Route("HEAD", "/health", keyed=False),
    Route("GET", EVIDENCE, keyed=False),
    Route("GET", "/version"),
    Route("GET", "/v1/models"),
    Route("GET", "/v1/models/{model}"),
    Route("GET", "/v1/responses/{id}", query=("stream", "starting_after")),
    *(Route("POST", path) for path in (
        "/v1/chat/completions", "/v1/chat/completions/batch", "/v1/completions", "/v1/responses",
        "/v1/responses/{id}/cancel", "/v1/messages", "/inference/v1/generate", "/generative_scoring", "/v1/embeddings",
        "/v2/embed", "/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank",
        "/v1/audio/transcriptions", "/v1/audio/translations")),
    *(Route("POST", path, counted=True) for path in ("/v1/messages/count_tokens", "/tokenize", "/detokenize")),
)


@dataclass(frozen=True)
class Match:
    """A request's place in the table.

    Args:
        target: what vLLM is asked for: path and query, built from what was matched.
        word: what stood for {id} or {model}, decoded.
    """

    route: Route
    target: str
    word: str = ""


def _pattern(route: Route) -> re.Pattern[str]:
    return re.compile(re.escape(route.path).replace(r"\{id\}", f"({ID})").replace(r"\{model\}", f"({MODEL})"), re.ASCII)


# Of a query: no client's has so many.
FIELDS = 64
PATTERNS = tuple((route, _pattern(route)) for route in ROUTES)
# Most requests are for a path without a word in it, which needs no search.
PLAIN = {(route.method, route.path): Match(route, route.path) for route in ROUTES if "{" not in route.path}


def find(method: str, target: str) -> Match | None:
    """The route of a request line's method and target, compared as they came; None when there is none."""
    path, _, query = target.partition("?")
    if plain := PLAIN.get((method, path)):
        return plain
    for route, pattern in PATTERNS:
        if route.method == method and query.count("&") < FIELDS and (matched := pattern.fullmatch(path)):
            return Match(route, path + _query(route, query), unquote(matched[1], errors="replace"))
    return None


def methods(target: str) -> tuple[str, ...]:
    """The methods with which a path is served."""
    path = target.partition("?")[0]
    return tuple(sorted(route.method for route, pattern in PATTERNS if pattern.fullmatch(path)))


def _query(route: Route, query: str) -> str:
    """What of the query string goes on, encoded again."""
    pairs = [(name, value) for name, value in parse_qsl(query) if name in route.query]
    return f"?{urlencode(pairs)}" if pairs else ""
