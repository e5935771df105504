"""Another certificate for an instance that runs, before the one it has ends."""

from __future__ import annotations

import datetime

from cryptography.x509 import Certificate

from vmtool.access.give import give_access
from vmtool.errors import Refused, VmtoolError
from vmtool.instance.instance import Instance
from vmtool.machine import Host
from vmtool.paths import State
from vmtool.serving.access_list import OWN_KEY
from vmtool.spec.facts import read_own_spec
from vmtool.tls.given import read_certificates
from vmtool.tls.plan import order_of
from vmtool.tls.workers import prepare


def ends(host: Host, instance: Instance) -> datetime.datetime:
    """When the certificate that it shows ends.

    Raises:
        ValueError, OSError: it cannot be read.
    """
    return read_shown(host, instance).not_valid_after_utc


def read_shown(host: Host, instance: Instance) -> Certificate:
    """The certificate that it shows: of what was given to it, or of what it has made.

    Raises:
        ValueError, OSError: it cannot be read.
    """
    own = host.exists(str(instance.paths.tls / OWN_KEY))
    return read_certificates(host.read(instance.paths.tls / ("trusted.pem" if own else "certificate.pem")))[0]


def is_due(host: Host, instance: Instance, now: datetime.datetime) -> bool:
    """Whether another one is to be made: two thirds of its time are over, or the clock says that it has not begun; of a
    file, whether it is another one than is shown."""
    try:
        shown = read_shown(host, instance)
        tls = read_own_spec(instance.paths.spec).spec.tls
        if tls.in_guest:
            return False
        if len(read_certificates(host.read(instance.paths.tls / "trusted.pem"))) > 1:
            return True  # one was made ready that the front has not taken
        if tls.certificate:
            return read_certificates(host.read(tls.certificate))[0] != shown
    except (ValueError, OSError, VmtoolError):
        return True
    begin, end = shown.not_valid_before_utc, shown.not_valid_after_utc
    return not begin <= now < begin + (end - begin) * 2 / 3


def renew(state: State, host: Host, instance: Instance) -> None:
    """Make another one ready and give it to the front, which shows it to new connections; those that are there go on.

    Killed or refused in between, vmtool knows the front by the old certificate and by the new one.

    Raises:
        Refused: a person's files are of no use; what was shown stays. VmtoolError: the front does not take it.
    """
    body, paths = read_own_spec(instance.paths.spec).spec, instance.paths
    if body.tls.in_guest:
        raise Refused(f"{instance.name} has made its key itself, and keeps it until it ends",
                      hint=f"for another key: vmtool stop {instance.name} && vmtool start {instance.name}")
    prepare.run(order_of(state, body, paths, keeps=True), host)
    give_access(host, instance)
    shown = host.read(paths.tls / "certificate.pem")
    first = shown.partition(b"-----END CERTIFICATE-----\n")
    host.write(paths.tls / "trusted.pem", first[0] + first[1])
