"""Actions that are done on this machine: `python -m tests.integration.doing`, with a list of them as JSON on stdin.

Exit status 1 when one failed. So a test does them within the namespaces of a host inside the host.
"""

from __future__ import annotations

import json
import sys

from vmtool.errors import VmtoolError
from vmtool.host.local import LocalHost
from vmtool.plan import action_from_json

for record in json.load(sys.stdin):
    try:
        action_from_json(record).do(LocalHost(sys.stdout))
    except (VmtoolError, OSError) as error:
        sys.exit(f"{record['kind']}: {error} {getattr(error, 'details', '')}")
