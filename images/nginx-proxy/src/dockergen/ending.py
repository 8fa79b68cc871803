"""End the first process of a container at a signal."""

import os
import signal
import threading


def end_when_told() -> None:
    """End this process at SIGTERM or SIGINT, whatever it waits for.

    Call it before starting other threads. Process 1 has no default action for these signals,
    and a handler runs only once the main thread wakes. When a server shuts down, systemd stops all
    processes, signals them and lets them go on (`broadcast_signal` in its src/shared/killall.c):
    then any thread may get the signal, the main one sleeps on, and the shutdown waits for 90 s.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
