#!/usr/bin/env bash
# healthcheck PORT PATH: succeeds when http://127.0.0.1:PORT/PATH answers 200. Plain bash, so that the image needs
# neither curl nor a further program.
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
IFS= read -r -t 4 status <&3
echo "$status"
[[ $status == 'HTTP/1.1 200 '* ]]
