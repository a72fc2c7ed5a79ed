#!/usr/bin/env python3
"""Sends more to versions that fail less. Usage: thompson.py SERVICE [TURNS [SECONDS]]

Thompson sampling: each version's chance to succeed is drawn from what was seen of it, again and again,
and its share goes towards how often it was the best. Where a trial counts, its counters are taken."""
import os, random, sys, time
import redis

service, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
every = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
r = redis.Redis.from_url(os.environ.get("SMARTLINK_REDIS", "redis://127.0.0.1:6379/0"), decode_responses=True)
DRAWS, FLOOR, STEP, FORGET, WHOLE = 2000, 0.05, 0.2, 0.995, 100
random.seed(os.environ.get("SEED"))

def read(key):
    try:
        return r.hgetall(key)
    except redis.ResponseError:  # an access list that does not let us look
        return {}

def counts(versions):
    """Version to (requests, failures), from a trial where there is one, else from the statistics."""
    trials = [read(f"smartlink:trial:{service}:{version}") for version in versions if version != "base"]
    found = {version: [0, 0] for version in versions}
    for field, text in [pair for trial in trials for pair in trial.items()]:
        share, _, rest = field.partition(".")
        version, _, name = rest.rpartition(".")
        if share.isdecimal() and version in found and name in ("requests", "bad"):
            found[version][name == "bad"] += int(text)
    if not any(requests for requests, _ in found.values()):
        for version in versions:
            stats = read(f"smartlink:stats:{service}:{version}")
            found[version] = [int(stats.get(name, 0)) for name in ("requests", "status_5xx")]
    return found

seen, good, bad = {}, {}, {}
while turns != 0:
    key = f"smartlink:weights:{service}"
    now = {version: int(text) for version, text in r.hgetall(key).items() if text.isdecimal() and int(text) > 0}
    for version, (requests, failures) in counts(now).items() if len(now) > 1 else []:
        before = seen.get(version, (0, 0))
        new = max(requests - before[0], 0), max(failures - before[1], 0)
        seen[version] = requests, failures
        bad[version] = FORGET * bad.get(version, 0) + new[1]
        good[version] = FORGET * good.get(version, 0) + max(new[0] - new[1], 0)
    if len(now) > 1 and sum(good.values()) + sum(bad.values()) > 0:
        draw = lambda version: random.betavariate(1 + good[version], 1 + bad[version])
        best = [max(now, key=draw) for _ in range(DRAWS)]
        shares = {version: weight / sum(now.values()) for version, weight in now.items()}
        near = lambda version: max(-STEP, min(STEP, best.count(version) / DRAWS - shares[version]))
        goal = {version: max(FLOOR, share + near(version)) for version, share in shares.items()}
        weights = {version: round(WHOLE * share / sum(goal.values())) for version, share in goal.items()}
        r.hset(key, mapping=weights)
        print(service, " ".join(f"{version} {weight}" for version, weight in weights.items()), flush=True)
    turns = turns and turns - 1
    time.sleep(every if turns != 0 else 0)
