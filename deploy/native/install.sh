#!/bin/sh
# Installs what Warren needs on this machine and lacks: to build, gcc and make; to run without Docker, PostgreSQL and
# RabbitMQ. With everything in place it changes nothing and takes no time; the servers it installs are not started,
# since every run starts private ones of its own. `install.sh faults` and `install.sh test` add what only these need.
set -eu

packages=
missing=
# needs <what is looked for> <found?> <Debian package>
needs() {
  if [ "$2" != yes ]; then
    missing="$missing $1"
    packages="$packages $3"
  fi
}
command_found() { if command -v "$1" >/dev/null 2>&1; then echo yes; else echo no; fi }
any_file() {
  for file in "$@"; do
    if [ -e "$file" ]; then echo yes; return; fi
  done
  echo no
}
either() { if [ "$1" = yes ] || [ "$2" = yes ]; then echo yes; else echo no; fi }

needs gcc "$(command_found gcc)" gcc
needs libc-headers "$(any_file /usr/include/stdlib.h /Library/Developer/CommandLineTools/SDKs)" libc6-dev
needs make "$(command_found make)" make
needs postgresql "$(either "$(any_file /usr/lib/postgresql/*/bin/initdb)" "$(command_found initdb)")" postgresql
needs rabbitmq-server "$(either "$(any_file /usr/lib/rabbitmq/bin/rabbitmq-server "${RABBITMQ_HOME:-/none}/sbin/rabbitmq-server")" "$(command_found rabbitmq-server)")" rabbitmq-server

if [ "${1:-}" = faults ]; then
  needs libfaketime "$(any_file /usr/lib/*/faketime/libfaketime.so.1 /usr/lib/faketime/libfaketime.so.1 /usr/lib64/faketime/libfaketime.so.1)" libfaketime
fi

# The tests have signatures checked by a program that nobody here wrote.
if [ "${1:-}" = test ]; then
  has_module() {
    for python in /usr/bin/python3 python3; do
      if "$python" -c "import $1" >/dev/null 2>&1; then echo yes; return; fi
    done
    echo no
  }
  needs dkimpy "$(has_module dkim)" python3-dkim
  needs pynacl "$(has_module nacl)" python3-nacl
  # And mails are handed to a server that nobody here wrote.
  needs postfix "$(any_file /usr/sbin/postfix)" postfix
  needs sasldb "$(any_file /usr/lib/*/sasl2/libsasldb.so /usr/lib64/sasl2/libsasldb.so)" libsasl2-modules-db
  needs sasl-plain "$(any_file /usr/lib/*/sasl2/libplain.so /usr/lib64/sasl2/libplain.so)" libsasl2-modules
  needs saslpasswd2 "$(any_file /usr/sbin/saslpasswd2)" sasl2-bin
fi

rust_hint() {
  echo "install.sh: no cargo. Warren is built with Rust 1.89 or later: https://rustup.rs installs it" >&2
  echo "  (curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh), or your system's package rustup." >&2
}

# A cargo that the shell's PATH lacks, as after a fresh rustup, is as good: the Makefile looks there too.
cargo=yes
if [ "$(command_found cargo)" != yes ] && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then cargo=no; fi

if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "install.sh: missing:$missing" >&2
    echo "This system has no apt-get, so install them by its own package manager, for example:" >&2
    echo "  Fedora:  sudo dnf install gcc make postgresql-server rabbitmq-server" >&2
    echo "  Arch:    sudo pacman -S gcc make postgresql rabbitmq" >&2
    echo "  macOS:   xcode-select --install; brew install postgresql rabbitmq" >&2
    echo "(libfaketime, for make faults alone, has that name everywhere; dkimpy and pynacl, for make test alone," >&2
    echo "are Python packages: pip install dkimpy pynacl; make test hands mails to a Postfix with Cyrus SASL too)" >&2
    echo "or use Docker: make run RUNNER=docker" >&2
    [ "$cargo" = yes ] || rust_hint
    exit 1
  fi
  as_root=
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
      echo "install.sh: missing:$missing; run as root: apt-get install$packages" >&2
      exit 1
    fi
    as_root=sudo
  fi
  echo "install.sh: installing$packages" >&2

  # Packages ask policy-rc.d before they start a service; 101 is "no". One that stands there already is left alone.
  policy=/usr/sbin/policy-rc.d
  placed=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    placed=yes
  fi
  remove_policy() { if [ "$placed" = yes ]; then $as_root rm -f "$policy"; fi }
  trap remove_policy EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Options::=--force-confold -qq "$@" >&2 </dev/null
  }
  if ! apt update; then
    echo "install.sh: apt-get update failed; going on with the package lists that are here" >&2
  fi
  # Word splitting is wanted: one argument for each package.
  # shellcheck disable=SC2086
  apt install --no-install-recommends $packages
  # Nor at the next boot: they would hold the usual ports.
  if [ -d /run/systemd/system ]; then
    for service in postgresql rabbitmq-server postfix; do
      case "$packages " in *" $service "*) $as_root systemctl disable --quiet "$service" || true ;; esac
    done
  fi
fi

if [ "$cargo" != yes ]; then
  rust_hint
  exit 1
fi
