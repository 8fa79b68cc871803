"""A slow scheduled job, and a worker; both record when they begin and end."""

import os
import signal
import sys
import time

import psycopg2


def note(step: str) -> None:
    with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO tick (step) VALUES (%s)", (step,))


if sys.argv[1] == "job":
    note("job begins")
    time.sleep(float(sys.argv[2]))
    note("job ends")
else:
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    note("worker begins")
    while not stopped:
        time.sleep(0.2)
    note("worker ends")
