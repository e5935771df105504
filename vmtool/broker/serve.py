"""Serving a broker in the foreground: by the bounded listener that stands before vLLM, too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from typing import Any

from vmtool.broker.audit import Audit
from vmtool.broker.decide import Decisions
from vmtool.broker.handler import LIMITS, BrokerHandler
from vmtool.broker.rates import Rates
from vmtool.broker.release import ReleaseRules
from vmtool.broker.sessions import Sessions
from vmtool.errors import VmtoolError
from vmtool.serving.access_list import Certificates
from vmtool.serving.front.limits import fitting
from vmtool.serving.front.log import BoundedLog, Warnings
from vmtool.serving.front.server import listen
from vmtool.serving.front.tls import Tls
from vmtool.serving.listening import listening_socket
from vmtool.serving.turns import run

# Seconds after which the certificate is looked at again: a day of the 90 that one of vmtool's CA is good for.
RENEWED_EACH = 86_400.0


def serve(release: ReleaseRules, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        OSError: it cannot listen there.
        ValueError: the certificate does not fit its key.
    """
    with contextlib.closing(listening_socket(release.address)) as listening:
        run(_serve(release, listening, say))


async def _serve(release: ReleaseRules, listening: Any, say: Callable[[str], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    limits = release.limits
    decisions = Decisions(release, Sessions(limits.sessions, limits.session_seconds, time.monotonic),
                          Audit(release.audit))
    handler = BrokerHandler(decisions, Rates(limits.requests_per_minute, time.monotonic), say)
    tls = Tls(release.certificates) if release.certificates else None
    renewing = asyncio.create_task(renew(tls, release.renewed, say)) if tls else None
    complaints = Warnings(BoundedLog(say, 1.0, "warnings"))
    logging.getLogger().addHandler(complaints)
    serving = asyncio.create_task(listen(handler, listening, fitting(LIMITS), tls,
                                         listens=lambda: _tell(release, say)))
    try:
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        working = [serving, *([renewing] if renewing else [])]
        for each in working:
            each.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        logging.getLogger().removeHandler(complaints)


async def renew(tls: Tls, renewed: Callable[[], Certificates | None], say: Callable[[str], None],
                each: float = RENEWED_EACH) -> None:
    """Show the current certificate, without end: vmtool's CA issues it again, files are read again."""
    while True:
        await asyncio.sleep(each)
        try:
            if certificates := await asyncio.to_thread(renewed):
                tls.change(certificates)
        except (VmtoolError, OSError, ValueError) as error:
            say(f"the certificate stays as it was: {error}")


def _tell(release: ReleaseRules, say: Callable[[str], None]) -> None:
    host, port = release.address
    say(f"the broker listens on {'https' if release.certificates else 'http'}://{host}:{port}, for "
        f"{len(release.rules)} resource{'s' if len(release.rules) > 1 else ''}")
    for name in sorted(name for name, rule in release.rules.items() if rule.policy.is_sample):
        say(f"NOT CONFIDENTIAL: {name} is released to whoever asks, without any proof (tee: [sample])")
