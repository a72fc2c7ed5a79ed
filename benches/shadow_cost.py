"""What a shadow costs: instructions of a request with and without, what Redis pays for a record, how
many a worker and a gateway manage, and whether users feel the sink.

    python3 benches/shadow_cost.py instructions|redis|worker|gateway|felt [path of a release binary]

Needs redis-server, nginx, wrk, and valgrind for `instructions`. Everything runs on loopback and is
ended by its own process id. Instructions depend on no other load; times do, so `felt` interleaves.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

VERB = sys.argv[1] if len(sys.argv) > 1 else "redis"
BINARY = sys.argv[2] if len(sys.argv) > 2 else "target/release/smartlink"
KEEP = []


def port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def start(args, **more):
    child = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    KEEP.append(child)
    return child


def end():
    for child in KEEP:
        if child.poll() is None:
            child.send_signal(signal.SIGCONT)
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def until(what, check, patience=60):
    last = time.time() + patience
    while time.time() < last:
        try:
            if (got := check()) is not None and got is not False:
                return got
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"not in time: {what}")


class Redis:
    def __init__(self, *args):
        self.port, self.args = port(), args
        self.begin()

    def begin(self):
        self.child = start(["redis-server", "--port", str(self.port), "--save", "", *self.args])
        until("redis", lambda: self("PING"))

    def __call__(self, *words):
        words = [str(word).encode() for word in words]
        text = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        with socket.create_connection(("127.0.0.1", self.port), 5) as it:
            it.settimeout(30)
            it.sendall(text)
            return reply(it.makefile("rb"))

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/"

    def cpu(self):
        info = self("INFO", "cpu")
        parts = re.findall(r"used_cpu_(?:sys|user):([\d.]+)", info)
        return sum(map(float, parts))


def reply(file):
    line = file.readline().rstrip()
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise OSError(f"redis: {rest.decode()}")
    if kind == b":":
        return int(rest)
    if kind == b"+":
        return rest.decode()
    if kind == b"$":
        size = int(rest)
        return None if size < 0 else file.read(size + 2)[:-2].decode("utf8", "replace")
    return [reply(file) for _ in range(int(rest))]


def upstream(bytes_):
    """An nginx that answers every request with so many bytes of JSON."""
    at, folder = port(), tempfile.mkdtemp()
    with open(f"{folder}/answer", "w") as file:
        file.write(json.dumps({"status": True, "data": "y" * (bytes_ - 30)}))
    conf = f"""worker_processes 1; daemon off; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}; client_max_body_size 0;
proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
server {{ listen 127.0.0.1:{at}; location / {{ root {folder}; error_page 405 =200 $uri; default_type application/json;
try_files /answer =404; }} }} }}"""
    with open(f"{folder}/conf", "w") as file:
        file.write(conf)
    start(["nginx", "-c", f"{folder}/conf", "-p", folder])
    until("nginx", lambda: socket.create_connection(("127.0.0.1", at)).close() or True)
    return f"http://127.0.0.1:{at}/"


class Gateway:
    def __init__(self, config, sink, before=(), threads=1):
        self.port, self.admin = port(), port()
        serve = ["serve", "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}"]
        serve += ["--threads", str(threads), "--redis", config.url, "--shadow-redis", sink.url]
        self.child = start([*before, BINARY, *serve])
        until("gateway", lambda: self.is_ready(), 120)

    def is_ready(self):
        with socket.create_connection(("127.0.0.1", self.admin), 5) as it:
            it.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return b" 200 " in it.recv(100)

    def cpu(self):
        return cpu_of(self.child.pid)


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request(bytes_):
    body = json.dumps({"server_name": "s", "data": ["x" * max(0, bytes_ - 40)]}).encode()
    head = b"POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def ask(at, bytes_, count):
    """So many requests over one kept connection."""
    sent = request(bytes_)
    with socket.create_connection(("127.0.0.1", at), 5) as it:
        it.settimeout(120)
        it.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = it.makefile("rb")
        for _ in range(count):
            it.sendall(sent)
            length, line = 0, file.readline()
            assert b" 200 " in line, line
            while (line := file.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)


def count(redis, field="delivered"):
    return int(redis("HGET", "smartlink:shadow-counts:s", field) or 0)


def stage(bytes_, sink_args=(), **more):
    """Half of the bytes are sent, half are answered."""
    config, sink = Redis(), Redis(*sink_args)
    config("HSET", "smartlink:endpoints:s", upstream(bytes_ // 2), "base")
    return config, sink, Gateway(config, sink, **more)


def shadow(config, gateway, on):
    if on:
        config("HSET", "smartlink:shadow:s", "sample", "100%", "max_body", "1MiB")
    else:
        config("DEL", "smartlink:shadow:s")
    time.sleep(1)


def instructions():
    """Instructions of a request, by thread: 2,000 requests of 1 KB and as much back."""
    folder, many = tempfile.mkdtemp(), 2_000
    valgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", "--instr-atstart=yes"]
    valgrind += [f"--callgrind-out-file={folder}/out"]
    config, sink, gateway = stage(2_048, before=valgrind)
    pid = gateway.child.pid
    results = {}
    for state in ("off", "on", "off", "on", "batched"):
        on = state != "off"
        shadow(config, gateway, on)
        ask(gateway.port, 1_024, 300)
        time.sleep(3)
        control = ["callgrind_control", "-z", str(pid)]
        subprocess.run(control, check=True, stdout=subprocess.DEVNULL)
        began = time.time()
        if state == "batched":
            # As under load, when each batch is full: valgrind is too slow to fill one in 20 ms.
            sink.child.send_signal(signal.SIGSTOP)
        ask(gateway.port, 1_024, many)
        if state == "batched":
            sink.child.send_signal(signal.SIGCONT)
            until("all are shipped", lambda: count(sink, "sampled") >= 3 * (many + 300))
        took = time.time() - began
        # What is shipped behind the requests belongs to them.
        time.sleep(3)
        hint = state
        subprocess.run(["callgrind_control", f"--dump={hint}", str(pid)], check=True, stdout=subprocess.DEVNULL)
        # How much the gateway does by itself in so long.
        subprocess.run(control, check=True, stdout=subprocess.DEVNULL)
        time.sleep(took + 3)
        subprocess.run(["callgrind_control", f"--dump=idle-{hint}", str(pid)], check=True, stdout=subprocess.DEVNULL)
        time.sleep(1)
    for name in sorted(os.listdir(folder)):
        text = open(f"{folder}/{name}", errors="replace").read(4_000_000)
        trigger = re.search(r"desc: Trigger: Client Request.*|desc: Trigger: .*", text)
        thread, total = re.search(r"^thread: (\d+)", text, re.M), re.search(r"^(?:summary|totals): (\d+)", text, re.M)
        if total is None:
            tail = subprocess.run(["tail", "-c", "300", f"{folder}/{name}"], capture_output=True, text=True).stdout
            total = re.search(r"^(?:summary|totals): (\d+)", tail, re.M)
        print(name, trigger and trigger.group(0)[-40:], thread and thread.group(1), total and int(total.group(1)) / many)
    print("threads, in order:", [open(f"/proc/{pid}/task/{t}/comm").read().strip() for t in sorted(os.listdir(f"/proc/{pid}/task"), key=int)])
    print("sampled", count(sink, "sampled"), "delivered", count(sink))
    shutil.rmtree(folder)


def redis():
    """CPU and memory of the sink for a record, and CPU of the whole gateway for a request."""
    for size, many in ((1_024, 20_000), (8_192, 10_000), (65_536, 4_000)):
        config, sink, gateway = stage(size)
        config("HSET", "smartlink:shadow:s", "maxlen", many * 2, "max_bytes", "4GiB")
        ask(gateway.port, size // 2, many // 4)
        shadow(config, gateway, False)
        own = gateway.cpu()
        ask(gateway.port, size // 2, many)
        own = gateway.cpu() - own
        shadow(config, gateway, True)
        config("HSET", "smartlink:shadow:s", "maxlen", many * 2, "max_bytes", "4GiB")
        time.sleep(1)
        idle = sink.cpu()
        time.sleep(2)
        idle = (sink.cpu() - idle) / 2
        before, cpu, gate, began = count(sink), sink.cpu(), gateway.cpu(), time.time()
        for part in range(0, many, 500):
            # Not more at once than there is room for.
            ask(gateway.port, size // 2, 500)
            until("all are shipped", lambda: count(sink) - before >= part + 500, 30)
        took = time.time() - began
        cpu, gate = sink.cpu() - cpu - idle * took, gateway.cpu() - gate
        entries = sink("XLEN", "smartlink:shadow-stream:s")
        memory = sink("MEMORY", "USAGE", "smartlink:shadow-stream:s", "SAMPLES", "0")
        print(f"{size} B of bodies: redis {cpu / many * 1e6:.1f} us and {memory / entries:.0f} B a record; "
              f"gateway {own / many * 1e6:.0f} us a request off, {gate / many * 1e6:.0f} on; {many / took:.0f}/s")
        end()
        KEEP.clear()


def gateway():
    """How many records a gateway ships where nobody waits: wrk asks as fast as it can."""
    config, sink, gate = stage(2_048, threads=2)
    shadow(config, gate, True)
    for connections in (4, 16, 64):
        before = {it: count(sink, it) for it in ("sampled", "delivered", "dropped_queue", "dropped_memory")}
        cpu, redis_cpu = gate.cpu(), sink.cpu()
        text = wrk(gate.port, connections, 8, 1_024)
        time.sleep(6)
        after = {it: count(sink, it) - before[it] for it in before}
        print(connections, "connections:", text, after, f"redis {sink.cpu() - redis_cpu:.1f} s, gateway {gate.cpu() - cpu:.1f} s")


def wrk(at, connections, seconds, bytes_, pause_ms=0):
    body = json.dumps({"server_name": "s", "data": ["x" * (bytes_ - 40)]})
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
                   f"delay = function() return {pause_ms} end\n"
                   "done = function(s, l, r) io.write(string.format('RESULT %d %d %d %d %d\\n', l:percentile(50), "
                   "l:percentile(99), l.max, s.requests, s.errors.status + s.errors.connect + s.errors.read + s.errors.timeout)) end\n")
        file.flush()
        args = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", file.name, f"http://127.0.0.1:{at}/ai_server/"]
        out = subprocess.run(args, capture_output=True, text=True, check=True).stdout
    names = ("p50_us", "p99_us", "max_us", "requests", "errors")
    return dict(zip(names, map(int, re.search(r"RESULT (.*)", out).group(1).split())))


def felt():
    """p50 and p99 of users, in short runs in random order: off, and on with sinks of every kind.

    Four callers pause PAUSE_MS between requests, so that the machine is not what they wait for.
    """
    pause = int(os.environ.get("PAUSE_MS", "4"))
    rounds, seconds = int(os.environ.get("ROUNDS", "12")), float(os.environ.get("SECONDS_EACH", "2"))
    config, sink, gate = stage(2_048)
    states = ["off", "fine", "frozen", "refused", "full"]
    seen = {state: [] for state in states}
    wrk(gate.port, 4, 2, 1_024)
    for _ in range(rounds):
        for state in random.sample(states, len(states)):
            shadow(config, gate, state != "off")
            if state == "frozen":
                sink.child.send_signal(signal.SIGSTOP)
            if state == "refused":
                sink.child.kill()
                sink.child.wait()
            if state == "full":
                sink("CONFIG", "SET", "maxmemory", "1")
            seen[state].append(wrk(gate.port, 4, int(seconds), 1_024, pause))
            if state == "frozen":
                sink.child.send_signal(signal.SIGCONT)
            if state == "refused":
                sink.begin()
            if state == "full":
                sink("CONFIG", "SET", "maxmemory", "0")
            config("DEL", "smartlink:shadow:s")
            time.sleep(1.5)
    for state in states:
        runs = seen[state]
        line = [f"{state:8}"]
        for name in ("p50_us", "p99_us"):
            pairs = [on[name] / off[name] for on, off in zip(runs, seen["off"])]
            low, mid, high = (sorted(pairs)[int(q * (len(pairs) - 1))] for q in (0.1, 0.5, 0.9))
            line.append(f"{name} {statistics.median(r[name] for r in runs):.0f}, to off {mid:.2f} ({low:.2f} to {high:.2f})")
        line.append(f"{sum(r['requests'] for r in runs)} requests, {sum(r['errors'] for r in runs)} errors")
        print("; ".join(line))
    # The spread of a pair in which nothing differs: each off run with the next.
    offs = seen["off"]
    for name in ("p50_us", "p99_us"):
        pairs = sorted(a[name] / b[name] for a, b in zip(offs, offs[1:]))
        print(f"off to off {name}: {pairs[0]:.2f} to {pairs[-1]:.2f}, resident {resident(gate.child.pid)} MiB")


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) // 1024


def worker():
    """Records that one worker compares in a second, and what each costs it."""
    many = int(os.environ.get("RECORDS", "20000"))
    config, sink, gate = stage(2_048)
    config("HSET", "smartlink:endpoints:s", upstream(1_024), "candidate")
    config("HSET", "smartlink:shadow:s", "maxlen", many * 2, "label", "0%")
    shadow(config, gate, True)
    before = count(sink)
    ask(gate.port, 1_024, many)
    until("all are shipped", lambda: count(sink) - before >= many)
    for concurrent in (4, 16, 64):
        for key in ("results:s:candidate", "diffs:s:candidate"):
            sink("DEL", f"smartlink:shadow-{key}")
        sink("EVAL", "pcall(function() redis.call('XGROUP','DESTROY',KEYS[1],ARGV[1]) end)", 1,
             "smartlink:shadow-stream:s", "candidate:candidate")
        args = [BINARY, "shadow", "s", "--redis", config.url, "--shadow-redis", sink.url, "--from", "oldest"]
        args += ["--max-rate", "off", "--max-concurrent", str(concurrent)]
        began, cpu = time.time(), sink.cpu()
        child = start(args)
        counted = lambda: int(sink("HGET", "smartlink:shadow-results:s:candidate", "counted") or 0)
        until("all are compared", lambda: counted() >= many, 600)
        took, own = time.time() - began, cpu_of(child.pid)
        triples = sink("HGET", "smartlink:shadow-results:s:candidate", "triples")
        print(f"{concurrent} at once: {many / took:.0f}/s; worker {own / many * 1e6:.0f} us, redis "
              f"{(sink.cpu() - cpu) / many * 1e6:.0f} us a record; {triples} triples, {resident(child.pid)} MiB")
        child.terminate()
        child.wait()


try:
    {"instructions": instructions, "redis": redis, "worker": worker, "gateway": gateway, "felt": felt}[VERB]()
finally:
    end()
