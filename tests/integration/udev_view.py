"""Run by test_udev.py in a mount namespace of its own, with a udev database of the test's: print what vmtool is told.

    python -m tests.integration.udev_view RUN DEVICE [FIFO]      RUN replaces /run; FIFO the device's uevent
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from vmtool.host.local import LocalMachine


def main() -> None:
    run, device, *fifo = sys.argv[1:]
    subprocess.run(["mount", "--bind", run, "/run"], check=True)
    if fifo:
        subprocess.run(["mount", "--bind", fifo[0], f"{device}/uevent"], check=True)
    start = time.monotonic()
    # What answers may take its time on a busy machine; what does not is waited for in vain.
    found = dict(LocalMachine().udev(device, deadline=1.0 if fifo else 60.0))
    print(json.dumps({"found": found, "seconds": time.monotonic() - start,
                      "absent": dict(LocalMachine().udev(f"{device}9"))}))


if __name__ == "__main__":
    main()
