#!/bin/sh
# The last 10 minutes of a service, from its windows of 10 s: requests per second, the share of 5xx,
# and a bound that 99 % of the latencies kept, for every version. Usage: windows.sh SERVICE
set -eu
service=$1
cli() { redis-cli --no-auth-warning -u "${SMARTLINK_REDIS:-redis://127.0.0.1:6379/0}" "$@"; }

bounds=$(awk 'BEGIN { for (b = 100; n++ < 24; b *= 2) printf "%.0f ", b }')
fields="requests status_5xx$(printf ' latency_us_le_%s' $bounds)"
now=$(date +%s)
first=$((now / 10 * 10 - 600))
for version in $(cli HVALS "smartlink:endpoints:$service" | cut -d ' ' -f 1 | sort -u); do
    # One connection; each answer is a line a field, empty where nothing was counted.
    for start in $(seq "$first" 10 "$now"); do
        echo "HMGET smartlink:stats:$service:$version:$start $fields"
    done | cli | awk -v version="$version" -v bounds="$bounds" '
        { sum[(NR - 1) % 26] += $1 }
        END {
            split(bounds, bound, " ")
            for (i = 1; i <= 24 && !(p99 > 0); i++)
                if (sum[0] > 0 && sum[i + 1] >= sum[0] * 0.99) p99 = bound[i] / 1000
            errors = sum[0] > 0 ? 100 * sum[1] / sum[0] : 0
            p99 = p99 > 0 ? "<=" p99 "ms" : "-"
            printf "%s %.1f/s %.2f%% 5xx p99 %s\n", version, sum[0] / 600, errors, p99
        }'
done
