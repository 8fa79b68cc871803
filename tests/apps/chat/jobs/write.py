"""A worker that has to be started in its own folder; it writes down how it ends."""

import signal
import sys
import time
from pathlib import Path

OUTPUT = Path("/data/worker")


def stop(*_: object) -> None:
    OUTPUT.write_text("stopped gracefully")
    sys.exit()


signal.signal(signal.SIGTERM, stop)
before = OUTPUT.read_text() if OUTPUT.exists() else "first start"
OUTPUT.write_text(f"runs in {Path.cwd().name}, before: {before}")
while True:
    time.sleep(1)
