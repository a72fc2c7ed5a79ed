#!/bin/sh
# Shifts traffic towards the better version, within bounds. Usage: shift.sh SERVICE [TURNS]
set -eu
service=$1 turns=${2:--1}
STEP=5 LOW=1 HIGH=50 EVERY=10 # of 100; seconds: as long as the figures look back
cli() { redis-cli --no-auth-warning -u "${SMARTLINK_REDIS:-redis://127.0.0.1:6379/0}" "$@"; }

while [ "$turns" -ne 0 ]; do
    now=$(cli HGET "smartlink:weights:$service" candidate)
    # Without figures of both nothing is known; a weight of 0 is the word of a person.
    to=$(cli HMGET "smartlink:live:$service" base.rps candidate.rps base.error_rate \
        candidate.error_rate base.p99_ms candidate.p99_ms | tr '\n' ',' |
        awk -F, -v now="${now:-0}" -v step=$STEP -v low=$LOW -v high=$HIGH '
        now > 0 && $1 > 0 && $2 > 0 {
            worse = $4 > $3 + 0.01 || $6 > $5 * 1.2
            to = worse ? now - step : now + step
            print (to < low ? low : to > high ? high : to)
        }')
    if [ -n "$to" ]; then
        cli HSET "smartlink:weights:$service" base $((100 - to)) candidate "$to" >/dev/null
        echo "$service: candidate $now -> $to of 100"
    fi
    turns=$((turns - 1))
    [ "$turns" -eq 0 ] || sleep $EVERY
done
