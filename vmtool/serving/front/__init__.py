"""The only thing that listens: a deny-by-default reverse proxy from TCP to vLLM's Unix socket.

vLLM's own API key guards some prefixes only (in 0.32 `/invocations`, `/tokenize` and `/metrics` answer without
one), so nothing reaches vLLM but what `routes.ROUTES` lists, from an allowed address, with a key. `/health` needs no
key. Whatever a peer sends, and however slowly, what it can hold is bounded by `limits.Limits`.
"""

from vmtool.serving.front.engine import Engine
from vmtool.serving.front.front import Front
from vmtool.serving.front.limits import Limits, fitting
from vmtool.serving.front.manage import Manage
from vmtool.serving.front.server import serve

__all__ = ["Engine", "Front", "Limits", "Manage", "fitting", "serve"]
