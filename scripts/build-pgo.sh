#!/usr/bin/env bash
# Builds the gateway twice: once to learn under load which code is hot, once with what was learned.
# The result is target/pgo/smartlink. SECONDS_OF_LOAD says how long to learn (10).
# Needs llvm-profdata, of rustup's llvm-tools or of LLVM 19 or newer, and installs a Redis server
# where none is found; the load stays on loopback.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$PWD/target/pgo
seconds=${SECONDS_OF_LOAD:-10}
pids=()

say() {
    echo "build-pgo: $*" >&2
}

die() {
    say "$@"
    exit 1
}

end() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait
}
trap end EXIT

# The tool of this very compiler, then that on PATH, then the newest of the system.
tools() {
    echo "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata"
    command -v llvm-profdata || true
    printf '%s\n' /usr/lib/llvm-*/bin/llvm-profdata | sort -rV
}

# The first that can read what this compiler counts: seen now, not after the first build.
rm -rf "$work/raw"
mkdir -p "$work/raw"
echo 'fn main() {}' | rustc -Cprofile-generate="$work/raw" -o "$work/probe" -
"$work/probe"
profdata=
while read -r tool; do
    if [ -x "$tool" ] && "$tool" merge -o "$work/probed" "$work"/raw/*.profraw 2>"$work/refusal"; then
        profdata=$tool
        break
    fi
done < <(tools)
[ -n "$profdata" ] || die "no llvm-profdata that reads the profiles of $(rustc -V):" \
    "rustup component add llvm-tools (or: apt-get install llvm-19)"
rustc -O --edition 2024 -o "$work/pgo-load" scripts/pgo-load.rs

say "building the gateway that counts"
RUSTFLAGS="-Cprofile-generate=$work/raw" CARGO_TARGET_DIR="$work/counting" \
    cargo build --release --locked --bin smartlink
counting=$work/counting/release/smartlink

free_port() {
    local port
    for port in $(seq "$1" "$(($1 + 99))"); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return 0
        fi
    done
    die "no free port above $1"
}

answers() {
    local _try
    for _try in $(seq 100); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
            return 0
        fi
        sleep 0.1
    done
    die "nobody listens on port $1"
}

# Writes to Redis, whose client may not be there: one command in the form of Redis' wire.
tell_redis() {
    local word reply
    exec 3<>"/dev/tcp/127.0.0.1/$redis"
    printf '*%d\r\n' "$#" >&3
    for word in "$@"; do
        printf '$%d\r\n%s\r\n' "${#word}" "$word" >&3
    done
    read -r -t 10 reply <&3
    exec 3<&-
    [ "${reply:0:1}" = : ] || die "Redis says $reply"
}

server=$(scripts/install-redis.sh | tail -n 1)
redis=$(free_port 26379)
demo=$(free_port 28000)
gateway=$(free_port 29001)
"$server" --port "$redis" --bind 127.0.0.1 --save "" --appendonly no >"$work/redis.log" 2>&1 &
pids+=($!)
LLVM_PROFILE_FILE=/dev/null "$counting" demo --listen "127.0.0.1:$demo" >"$work/demo.log" 2>&1 &
pids+=($!)
answers "$redis"
answers "$demo"
tell_redis HSET smartlink:endpoints:test_server "http://127.0.0.1:$demo/" base
tell_redis HSET smartlink:route:all service test_server path /
token=learning-$RANDOM$RANDOM$RANDOM
tell_redis HSET smartlink:endpoints:guarded_server "http://127.0.0.1:$demo/" base
tell_redis HSET smartlink:service:guarded_server auth token rate 1000000/s
tell_redis HSET "smartlink:token:$(printf %s "$token" | sha256sum | cut -d ' ' -f 1)" name learner services "*"
LLVM_PROFILE_FILE="$work/raw/gateway.profraw" \
    "$counting" serve --listen "127.0.0.1:$gateway" --admin off --threads 1 \
    --redis "redis://127.0.0.1:$redis" --log warn &
serving=$!
pids+=("$serving")
answers "$gateway"

say "learning for $seconds seconds"
sleep 1
"$work/pgo-load" "127.0.0.1:$gateway" "$seconds" "$token" || die "the load failed"
kill "$serving"
wait "$serving" || die "the gateway did not end well"

# Named by what it holds: cargo builds anew where the name changes, not where the file does.
"$profdata" merge -o "$work/merged" "$work/raw/gateway.profraw"
profile=$work/$(cksum <"$work/merged" | cut -d ' ' -f 1).profdata
rm -f "$work"/*.profdata
mv "$work/merged" "$profile"

say "building the gateway with what was learned"
RUSTFLAGS="-Cprofile-use=$profile" CARGO_TARGET_DIR="$work/learned" \
    cargo build --release --locked --bin smartlink
cp "$work/learned/release/smartlink" "$work/smartlink"
say "built $work/smartlink"
