"""A worker without work."""

import signal

signal.sigwait({signal.SIGTERM})
