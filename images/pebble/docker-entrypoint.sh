#!/bin/sh
# Makes the certificate of Pebble's own HTTPS API, once: whoever trusts
# /var/lib/pebble/api-ca.pem keeps trusting it after a restart on the same volume.
set -eu
cd /var/lib/pebble
if [ ! -f api.pem ]; then
    umask 077
    names=$(printf 'DNS:%s' "$PEBBLE_HOSTNAMES" | sed 's/,/,DNS:/g')
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -subj "/CN=Pebble API CA" -keyout ca.key -out api-ca.pem 2>/dev/null
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -subj "/CN=Pebble API" -addext "subjectAltName=$names" \
        -addext "basicConstraints=critical,CA:FALSE" \
        -CA api-ca.pem -CAkey ca.key -keyout api.key -out api.pem.new 2>/dev/null
    rm ca.key
    chmod 0644 api-ca.pem
    mv api.pem.new api.pem
fi
cat > config.json <<EOF
{
  "pebble": {
    "listenAddress": "0.0.0.0:14000",
    "managementListenAddress": "0.0.0.0:15000",
    "certificate": "/var/lib/pebble/api.pem",
    "privateKey": "/var/lib/pebble/api.key",
    "httpPort": 80,
    "tlsPort": 443,
    "certificateValidityPeriod": $PEBBLE_CERTIFICATE_SECONDS
  }
}
EOF
exec "$@"
