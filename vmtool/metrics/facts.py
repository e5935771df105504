"""What the host's files say of an instance."""

from __future__ import annotations

import os
from contextlib import suppress

from vmtool.foreign import parse_json
from vmtool.instance.instance import Instance
from vmtool.machine import Host
from vmtool.metrics.host_text import InstanceFacts


def read_metrics(host: Host, instance: Instance) -> InstanceFacts:
    """Its facts; what cannot be read is not known."""
    canary, asked, ends = None, None, None
    paths = instance.paths
    # What watch was answered is of an earlier launch, where this one asks no question.
    for path in (paths.canary, paths.watched_canary) if host.exists(str(paths.canary)) else ():
        with suppress(OSError, ValueError, LookupError, TypeError):
            when = os.stat(path).st_mtime
            if asked is None or when > asked:
                canary, asked = bool(parse_json(host.read(path))["right"]), when
    with suppress(OSError, ValueError, ModuleNotFoundError):
        from vmtool.tls.renew import ends as end_of_certificate

        ends = end_of_certificate(host, instance).timestamp()
    return InstanceFacts(instance.name, instance.serves, canary, asked, ends)
