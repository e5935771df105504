"""Debian's prometheus and promtool, for tests."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.serving.processes import reserved_port

Ask = Callable[[str], list[str]]


def promtool(programs: Path, *words: str, text: bytes = b"") -> str:
    """What it complains about."""
    done = subprocess.run([programs / "promtool", *words], input=text, capture_output=True, timeout=60, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).decode()


@contextlib.contextmanager
def reading(programs: Path, directory: Path, target: str, **job: object) -> Iterator[Ask]:
    """A Prometheus that scrapes the target; asked a question, it gives the values."""
    held = reserved_port()
    port = held.getsockname()[1]
    (directory / "prometheus.yml").write_text(json.dumps({"scrape_configs": [{
        "job_name": "vmtool", "scrape_interval": "1s", "static_configs": [{"targets": [target]}], **job}]}))
    with subprocess.Popen([programs / "prometheus", f"--config.file={directory}/prometheus.yml",
                           f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{port}"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        def ask(question: str) -> list[str]:
            words = urllib.parse.urlencode({"query": question})
            with contextlib.suppress(OSError), urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/api/v1/query?{words}", timeout=5) as answer:
                return [found["value"][1] for found in json.loads(answer.read())["data"]["result"]]
            return []

        try:
            yield ask
        finally:
            process.terminate()
            held.close()
