#!/usr/bin/env bash
# Runs all tests; arguments are passed to the test runner.
# A Redis server is installed where none is found; nothing else is.
set -euo pipefail
cd "$(dirname "$0")/.."

server=$(scripts/install-redis.sh | tail -n 1)
PATH="$(dirname "$server"):$PATH"
export PATH

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run "$@"
    cargo test --doc --quiet
else
    cargo test "$@"
fi
