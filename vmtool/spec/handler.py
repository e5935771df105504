"""`spec.runtime`: how the workload is isolated."""

from __future__ import annotations

from pydantic import model_validator

from vmtool.findings import Handler
from vmtool.schema import Strict, defaults
from vmtool.spec.kata import KataSpec
from vmtool.spec.libvirt import Libvirt
from vmtool.tee.table import NONE, TeeName

NO_KATA, NO_LIBVIRT = defaults(KataSpec), defaults(Libvirt)


class Runtime(Strict):
    """How the workload is isolated.

    Args:
        handler: runc starts a plain container, kata and libvirt a virtual machine; e.g. `kata`
        tee: what keeps the host out of the virtual machine; none needs `allow_unconfidential`; e.g. `snp`
        kata: Kata's settings, with handler kata.
        libvirt: libvirt's settings, with handler libvirt.
    """

    handler: Handler = "kata"
    tee: TeeName = NONE
    kata: KataSpec = NO_KATA
    libvirt: Libvirt = NO_LIBVIRT

    @model_validator(mode="after")
    def _tee_needs_a_vm(self) -> Runtime:
        if self.handler == "runc" and self.tee != NONE:
            raise ValueError("runc starts no virtual machine, so it has no TEE: choose handler kata or libvirt")
        if self.handler != "kata" and self.kata != NO_KATA:
            raise ValueError(f"kata's settings do nothing with handler {self.handler}")
        if self.handler != "libvirt" and self.libvirt != NO_LIBVIRT:
            raise ValueError(f"libvirt's settings do nothing with handler {self.handler}")
        return self
