#!/bin/sh
# Set RESOLVERS before any command: by default, nginx uses the name servers of
# the container. acme-companion runs docker-gen through
# this script too, so both runs see the same value.
set -eu
if [ -z "${RESOLVERS:-}" ]; then
    # IPv6 addresses go in brackets; nginx knows no link-local ones with a zone.
    RESOLVERS=$(awk '$1 == "nameserver" && $2 !~ /%/ {
        printf "%s%s", sep, ($2 ~ /:/ ? "[" $2 "]" : $2); sep = " "
    }' /etc/resolv.conf)
    export RESOLVERS
fi
exec "$@"
