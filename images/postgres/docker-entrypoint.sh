#!/bin/bash
# Initialise an empty data folder, then become the server. Existing data is never touched.
set -euo pipefail

mkdir -p /run/postgresql

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -e "$PGDATA" ] && [ -n "$(ls -A "$PGDATA")" ]; then
    echo "$PGDATA is not empty and has no PG_VERSION: refusing to initialise over it. Look at the volume." >&2
    exit 1
  fi
  : "${POSTGRES_PASSWORD_FILE:?is not set: it names the file with the password of the database superuser}"
  # The finished folder gets its name in one step, so that an interrupted start leaves nothing that looks like data.
  fresh=$PGDATA.new
  rm -rf "$fresh"
  # Local connections are the operator's (docker exec); everybody else gives a password.
  # shellcheck disable=SC2086  # a list of options
  initdb --username="${POSTGRES_USER:-postgres}" --pwfile=<(cat "$POSTGRES_PASSWORD_FILE") \
    --auth-local=trust --auth-host=scram-sha-256 ${POSTGRES_INITDB_ARGS:-} --pgdata="$fresh"
  echo 'host all all all scram-sha-256' >> "$fresh/pg_hba.conf"
  mv -T "$fresh" "$PGDATA"
fi

exec "$@"
