"""What tests of additions share."""

from __future__ import annotations

from pathlib import Path

from vmtool.rootfs.add.guestfs_facts import Appliance
from vmtool.rootfs.build.facts import Supply

APPLIANCE = Appliance(binding=True, missing=(), kernel=Path("/c/k"), kvm=False, cache=Path("/c/guestfs"), root=True)
SUPPLY = Supply(environment=(), sources=(), options=('Acquire::http::Proxy "http://p"',), root=True)
RELEASE = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
