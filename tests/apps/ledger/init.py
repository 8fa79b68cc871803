"""Release command: create the tables. `entry` has no unique key, so that doubled rows show."""

import os
import sys
from pathlib import Path

import psycopg2

if (Path(__file__).parent / "fault.txt").read_text().strip() == "init":
    sys.exit("The migration of this release fails.")
with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    cursor.execute("CREATE TABLE IF NOT EXISTS entry (id text, release text, job text)")
    cursor.execute("CREATE TABLE IF NOT EXISTS tick (at timestamptz DEFAULT now(), step text)")
