#!/usr/bin/env python3
"""Shifts traffic towards the better version, within bounds. Usage: shift.py SERVICE [TURNS]"""
import os, sys, time
import redis

service, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
r = redis.Redis.from_url(os.environ.get("SMARTLINK_REDIS", "redis://127.0.0.1:6379/0"), decode_responses=True)
STEP, LOW, HIGH, EVERY = 5, 1, 50, 10  # of 100; seconds: as long as the figures look back

while turns != 0:
    live, weights = r.hgetall(f"smartlink:live:{service}"), r.hgetall(f"smartlink:weights:{service}")
    of = lambda version, field: float(live.get(f"{version}.{field}", 0))
    now = int(weights.get("candidate", 0))
    # Without figures of both nothing is known; a weight of 0 is the word of a person.
    if now > 0 and of("base", "rps") > 0 and of("candidate", "rps") > 0:
        worse = (of("candidate", "error_rate") > of("base", "error_rate") + 0.01
                 or of("candidate", "p99_ms") > of("base", "p99_ms") * 1.2)
        to = max(LOW, min(HIGH, now - STEP if worse else now + STEP))
        r.hset(f"smartlink:weights:{service}", mapping={"base": 100 - to, "candidate": to})
        print(f"{service}: candidate is {'worse' if worse else 'no worse'}, {now} -> {to} of 100", flush=True)
    turns = turns and turns - 1
    time.sleep(EVERY if turns != 0 else 0)
