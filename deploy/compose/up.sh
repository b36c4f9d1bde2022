#!/usr/bin/env bash
# `make up`: Warren by docker compose, in the foreground. Builds and starts everything, makes an API key, sends one
# mail through the public API, shows that it arrived and where everything is, then the logs. Ctrl-C stops the
# containers; their data stays. Arguments go to `docker compose up`, e.g. --scale mailer=4.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly run=../.run
compose() { docker compose --project-name warren "$@"; }
published() { compose port "$1" "$2" | sed 's/^0\.0\.0\.0:/127.0.0.1:/'; }
random_word() { head -c 48 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | head -c 32 || true; }
setting() { compose exec -T "$1" printenv "$2"; }

# Random passwords, unless there are servers already that know others.
if [ ! -e .env ] && [ -z "$(docker volume ls --quiet --filter label=com.docker.compose.project=warren)" ]; then
  (
    umask 077
    sed -e "s/^WARREN_POSTGRES_PASSWORD=$/&$(random_word)/" -e "s/^WARREN_RABBITMQ_PASSWORD=$/&$(random_word)/" \
      .env.example >.env
  )
  echo "Made deploy/.env with random passwords."
fi
# Whatever was made with it is told by it, so it stays as it is from then on.
if [ -e .env ] && ! grep --quiet '^WARREN_PEPPERS=.' .env; then
  sed -i '/^WARREN_PEPPERS=$/d' .env
  echo "WARREN_PEPPERS=local:$(random_word)$(random_word)" >>.env
fi

trap 'echo "Stopping …"; compose stop' EXIT
if ! compose up --build --detach --wait "$@"; then
  compose logs --tail 30
  echo "Not everything came up: see above." >&2
  exit 1
fi

api=http://$(published api 8080)
metrics=http://$(published api 9090)/metrics
inbox=http://$(published mailpit 8025)
management=$(published rabbitmq 15672)
rabbitmq_password=$(setting rabbitmq WARREN_RABBITMQ_PASSWORD)
database=postgres://warren:$(setting postgres POSTGRES_PASSWORD)@$(published postgres 5432)/warren
amqp=amqp://warren:$rabbitmq_password@$(published rabbitmq 5672)/warren

# The key of the run before, for as long as the API takes it.
mkdir -p "$run"
umask 077
key=$(cat "$run/compose-api-key" 2>/dev/null || true)
if ! curl --silent --fail --output /dev/null -H "Authorization: Bearer $key" "$api/api/v1/tasks?limit=1"; then
  key=$(compose exec -T api api-service key create --name make-up)
  echo "$key" >"$run/compose-api-key"
fi

cat >"$run/env" <<END
WARREN_URL=$api
WARREN_API_KEY=$key
WARREN_METRICS_URLS=$metrics
WARREN_INBOX_URL=$inbox
RABBITMQ_MANAGEMENT_URL=http://warren:$rabbitmq_password@$management
DATABASE_URL=$database
AMQP_URL=$amqp
END

cat <<END

Warren runs. Ctrl-C stops it; its data stays in docker volumes (docker volume ls).

  API         $api/api/v1
  Docs        $api/docs
  Inbox       $inbox
  RabbitMQ    http://$management   user warren   password $rabbitmq_password
  PostgreSQL  $database
  API key     $key
  For shells  set -a; . .run/env

  curl $api/api/v1/emails -H 'Authorization: Bearer $key' -H 'Content-Type: application/json' \\
    -d '{"to":"you@example.com","subject":"Hi","text":"Sent by Warren"}'

END

subject="Hello from Warren ($(random_word | head -c 8))"
answer=$(curl --silent --show-error --fail-with-body "$api/api/v1/emails" \
  -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
  -d "{\"to\":\"ada@example.com\",\"subject\":\"$subject\",\"text\":\"Through the API, PostgreSQL, RabbitMQ, the mailer and SMTP.\"}") ||
  echo "PROBLEM: the first mail was refused"
for _ in {1..150}; do
  if curl --silent "$inbox/api/v1/messages?limit=20" | grep --quiet --fixed-strings "$subject"; then
    arrived=yes
    break
  fi
  sleep 0.1
done
if [ "${arrived:-no}" = yes ]; then
  echo "A mail to ada@example.com went through the API and is in the inbox: \"$subject\""
else
  # Everything is up and worth looking at, so that the reason can be found.
  echo "PROBLEM: no mail \"$subject\" in the inbox after 15 s: $answer"
fi

compose logs --follow --tail 0
