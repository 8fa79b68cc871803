#!/bin/bash
# Initialise an empty data folder, then start the server. Existing data is never changed.
set -euo pipefail

mkdir -p /run/postgresql

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -e "$PGDATA" ] && [ -n "$(ls -A "$PGDATA")" ]; then
    echo "$PGDATA is not empty and has no PG_VERSION: refusing to initialise over it. Look at the volume." >&2
    exit 1
  fi
  : "${POSTGRES_PASSWORD_FILE:?is not set: it names the file with the password of the database superuser}"
  # Initialised as .new, then renamed: an interrupted start leaves no partial data folder.
  fresh=$PGDATA.new
  rm -rf "$fresh"
  # Only the operator connects locally (docker exec); all others need a password.
  # shellcheck disable=SC2086  # a list of options
  initdb --username="${POSTGRES_USER:-postgres}" --pwfile=<(cat "$POSTGRES_PASSWORD_FILE") \
    --auth-local=trust --auth-host=scram-sha-256 ${POSTGRES_INITDB_ARGS:-} --pgdata="$fresh"
  echo 'host all all all scram-sha-256' >> "$fresh/pg_hba.conf"
  mv -T "$fresh" "$PGDATA"
fi

exec "$@"
