#!/usr/bin/env python3
"""Weighs versions by how fast they answer. Usage: least_time_weights.py SERVICE [TURNS [SECONDS]]"""
import os, sys, time
import redis

service, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
every = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
r = redis.Redis.from_url(os.environ.get("SMARTLINK_REDIS", "redis://127.0.0.1:6379/0"), decode_responses=True)
# A fifth of the way each second: all of it at once swings, since who gets more gets slower.
ETA, FLOOR, WHOLE = 0.2, 0.02, 1000

def toward(shares, latencies):
    """A step from shares towards those that are in inverse proportion to latencies."""
    speeds = {version: 1 / latency for version, latency in latencies.items()}
    part = sum(shares[version] for version in speeds)  # what was not measured keeps its share
    goal = {version: part * speed / sum(speeds.values()) for version, speed in speeds.items()}
    new = {version: (1 - ETA) * share + ETA * goal.get(version, share) for version, share in shares.items()}
    new = {version: max(share, FLOOR) for version, share in new.items()}
    return {version: share / sum(new.values()) for version, share in new.items()}

def whole(shares):
    """Whole weights that come to WHOLE; the largest takes what rounding leaves."""
    weights = {version: round(share * WHOLE) for version, share in shares.items()}
    weights[max(weights, key=weights.get)] += WHOLE - sum(weights.values())
    return weights

while turns != 0:
    key = f"smartlink:weights:{service}"
    live, weights = r.hgetall(f"smartlink:live:{service}"), r.hgetall(key)
    # A weight of 0 is the word of a person, and one that is no number is somebody's mistake.
    now = {version: int(text) for version, text in weights.items() if text.isdecimal() and int(text) > 0}
    latency = {version: float(live.get(f"{version}.p50_ms", 0)) for version in now}
    latency = {version: ms for version, ms in latency.items() if ms > 0}
    if len(latency) > 1:
        shares = {version: weight / sum(now.values()) for version, weight in now.items()}
        new = whole(toward(shares, latency))
        if new != now:
            r.hset(key, mapping=new)
            print(service, " ".join(f"{version} {weight}" for version, weight in new.items()), flush=True)
    turns = turns and turns - 1
    time.sleep(every if turns != 0 else 0)
