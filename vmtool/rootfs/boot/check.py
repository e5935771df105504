"""What a guest that was booted said of itself, against what its image promises."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmtool.findings import Finding, finding
from vmtool.rootfs.metadata.manifest import Promises

AGENT = "kata-agent.service"
MARK = "VMTOOL-REPORT"


def read_report(console: str) -> dict[str, str]:
    """What the guest said: "unit multi-user.target" -> "active", and so on."""
    found = {}
    for line in re.findall(rf"{MARK} (.*)", console):
        words = line.strip().split(" ", 2)
        two = words[0] in ("unit", "vermagic", "loadable", "load")
        key = " ".join(words[:2]) if two else words[0]
        found[key] = line.strip().removeprefix(key).strip()
    return found


def check_report(report: dict[str, str], promises: Promises) -> Iterator[Finding]:
    """A finding for each promise. What the guest did not say is not known, and a boot without an end failed."""
    ended = "end" in report
    yield finding("boot.mounted", "root file system", "ok" if "mounted" in report else "fail",
                  "mounted" if "mounted" in report else "the guest did not mount it", "see the console's log")
    yield finding("boot.ended", "boot", "ok" if ended else "fail",
                  f"kernel {report.get('kernel', '?')}, probe came to its end" if ended else
                  "the probe did not come to its end in time", "see the console's log; --timeout S for a slow host")
    units = (promises.target or "multi-user.target", *promises.units, *([AGENT] if promises.agent else []))
    for unit in units:
        yield _told(report, f"unit {unit}", "boot.unit", unit, report.get(f"unit {unit}", ""), "active")
    if promises.hook:
        yield _told(report, "hook", "boot.hook", f"hook {promises.hook}", report.get("hook", ""), "executable")
    for module in promises.modules:
        built = report.get(f"vermagic {module}", "").partition(" ")[0]
        yield _told(report, f"vermagic {module}", "boot.vermagic", f"module {module}", built, report.get("kernel", "?"))
        yield _told(report, f"loadable {module}", "boot.loadable", f"module {module}, its dependencies",
                    report.get(f"loadable {module}", ""), "yes")
    if ended:
        failed = report.get("failed", "")
        yield finding("boot.failed", "failed units", "warn" if failed else "ok", failed or "none",
                      "systemctl status in the guest shows why")


def _told(report: dict[str, str], key: str, id: str, title: str, value: str, wanted: str) -> Finding:
    if key not in report:
        return finding(id, title, "fail", "the guest did not say", "see the console's log")
    return finding(id, title, "ok" if value == wanted else "fail",
                   value if value == wanted else f"{value or 'nothing'}, promised is {wanted}", "see the console's log")
