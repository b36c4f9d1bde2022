#!/usr/bin/env bash
# Starts RabbitMQ in its container: fills user and password into the definitions that every way of running uses
# (deploy/native/definitions.json), puts them where rabbitmq.conf looks for them, and hands over to the image's own
# entry point. RABBITMQ_DEFAULT_USER would not do: RabbitMQ ignores it where definitions are loaded. Since they are
# loaded at every start, a changed password holds after the next one.
set -euo pipefail

readonly template=/etc/warren/definitions.json definitions=/etc/rabbitmq/definitions.json

for name in WARREN_RABBITMQ_USER WARREN_RABBITMQ_PASSWORD; do
  if [[ ! ${!name:-} =~ ^[A-Za-z0-9._~-]+$ ]]; then
    echo "$name must be set, and may hold letters, digits and . _ ~ - only: it becomes part of JSON and of a URL." >&2
    exit 64
  fi
done

filled=$(<"$template")
filled=${filled//@USER@/$WARREN_RABBITMQ_USER}
filled=${filled//@PASSWORD@/$WARREN_RABBITMQ_PASSWORD}

rm -f "$definitions"
(umask 077 && printf '%s\n' "$filled" >"$definitions")
# The image's entry point drops root for this user.
if [ "$(id -u)" = 0 ]; then chown rabbitmq:rabbitmq "$definitions"; fi

exec docker-entrypoint.sh "$@"
