#!/usr/bin/env bash
# Makes the certificates of the tests anew: two authorities, two processes of the first one, one of the second.
# They are good for a hundred years, and for nothing but tests: their keys are public.
set -euo pipefail
cd "$(dirname "$0")"

authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$1" \
        -keyout "$1.key" -out "$1.pem" -addext 'basicConstraints=critical,CA:TRUE' 2>/dev/null
}

process() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:hurtig,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 36500 -extfile "$1.ext" \
        -out "$1.pem" 2>/dev/null
    rm "$1.csr" "$1.ext"
}

authority authority
authority stranger-authority
process manager authority
process worker authority
process stranger stranger-authority
rm -f ./*.srl authority.key stranger-authority.key
