"""What a VM's network process lets through, by frames (tests/lib/frames.py), in namespaces of this test's own: a host, whose
network process runs, and behind a router what it stands for: the Internet, private networks, a cloud's metadata."""
import atexit
import os
import socket
import struct
import subprocess
import sys
import time

if "MVM_IN_NAMESPACE" not in os.environ:
    if subprocess.run(["unshare", "-Urn", "true"], stderr=subprocess.DEVNULL).returncode or subprocess.run(
            ["ip", "-V"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        print("1..0 # SKIP user namespaces are refused here")
        sys.exit(0)
    os.execvpe("unshare", ["unshare", "-Urn", sys.executable, __file__], dict(os.environ, MVM_IN_NAMESPACE="1"))
sys.path.insert(0, os.environ["MVM_SOURCE"] + "/tests/lib")
import frames

count = failed = 0


def check(good, what, got=""):
    global count, failed
    count += 1
    failed += not good
    print(("ok" if good else "not ok"), count, "-", what, flush=True)
    if not good:
        print(f"# {what}: {got}", file=sys.stderr, flush=True)


def run(*words):
    subprocess.run(words, check=True)


# ---- The world ----

processes = []


def start(*words, **more):
    """A process that ends with this test, however that ends."""
    processes.append(subprocess.Popen(words, **more))
    return processes[-1]


@atexit.register
def end_processes():
    for process in processes:
        process.kill()
        process.wait()


beyond = start("unshare", "-n", "sleep", "600")
while os.readlink(f"/proc/{beyond.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
    time.sleep(0.01)
there = ["nsenter", "-t", str(beyond.pid), "-n"]
PUBLIC, PUBLIC6, PRIVATE, SHARED, METADATA = "9.9.9.9", "2620:fe::9", "10.9.9.9", "100.64.9.9", "169.254.169.254"
OWN_PUBLIC, OWN_SECOND, OWN_PUBLIC6 = "9.9.9.10", "9.9.9.12", "2620:fe::10"
run("ip", "link", "set", "lo", "up")
run("ip", "link", "add", "h0", "type", "veth", "peer", "name", "i0", "netns", str(beyond.pid))
run("ip", "addr", "add", OWN_PUBLIC + "/28", "dev", "h0")
run("ip", "addr", "add", OWN_SECOND + "/28", "dev", "h0")
run("ip", "-6", "addr", "add", OWN_PUBLIC6 + "/64", "dev", "h0", "nodad")
run("ip", "link", "set", "h0", "up")
run(*there, "ip", "link", "set", "lo", "up")
run(*there, "ip", "link", "set", "i0", "up")
run(*there, "ip", "addr", "add", PUBLIC + "/28", "dev", "i0")
run(*there, "ip", "-6", "addr", "add", PUBLIC6 + "/64", "dev", "i0", "nodad")
for address in PRIVATE, SHARED, METADATA, "8.8.8.8":
    run(*there, "ip", "addr", "add", address + "/32", "dev", "lo")
run("ip", "route", "add", "default", "via", PUBLIC)

SERVER = """
import socket, threading
def accept(listener):
    while True:
        listener.accept()[0].close()
listeners = [socket.create_server((address, 80), family=family, backlog=64)
             for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))]
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind(("0.0.0.0", 7))
for listener in listeners:
    threading.Thread(target=accept, args=(listener,)).start()
print("ready", flush=True)
while True:
    echo.sendto(*echo.recvfrom(65536))
"""
server = start(*there, sys.executable, "-c", SERVER, stdout=subprocess.PIPE)
server.stdout.readline()
here = start(sys.executable, "-c", SERVER, stdout=subprocess.PIPE)  # on the host: reached from all of its addresses
here.stdout.readline()
many = [f"8.8.{i}.1" for i in range(200)]
names = {"many.test": many, "public.test": PUBLIC, "private.test": PRIVATE, "loopback.test": "127.0.0.1"}
frames.serve_dns("127.0.0.53", names)


def policy(*layers, resolv="nameserver 127.0.0.53\n"):
    return frames.Guest(os.environ["MVMCTL"], layers, resolv)


# ---- public ----

guest = policy("@public")
offered, options = guest.dhcp()
check((offered, options.get(3), options.get(6)) == (frames.OWN, frames.packed(frames.GATEWAY), frames.packed(frames.DNS)),
      "DHCP offers a guest its address, the router and the answerer", (offered, options))
check(guest.tcp(PUBLIC, 80) == "open", "public: a guest connects to a public address")
check(guest.tcp("8.8.8.8", 80) == "open", "public: and to another")
check(guest.tcp(PUBLIC6, 80) == "open", "public: and to one of IPv6")
check(guest.tcp(PUBLIC, 81) == "reset", "public: a port where nothing listens refuses at once")
check(guest.udp(PUBLIC, 7, b"hello") == b"hello", "public: datagrams go there and back")
check(guest.udp(PUBLIC, 7, b"x" * 60000) == b"x" * 60000, "public: large ones, too")
closed = {
    "this host's loopback, by the router's address": frames.GATEWAY,
    "this host's loopback, by the router's IPv6 address": frames.GATEWAY6,
    "this host's loopback itself": "127.0.0.1",
    "::1": "::1",
    "this host's public address": OWN_PUBLIC,
    "this host's second address in its network": OWN_SECOND,
    "this host's public IPv6 address": OWN_PUBLIC6,
    "a private address": PRIVATE,
    "a shared address": SHARED,
    "a cloud's metadata": METADATA,
    "0.0.0.0": "0.0.0.0",
    "the loopback as a mapped IPv6 address": "::ffff:127.0.0.1",
    "a private address as a translated one": "64:ff9b::10.9.9.9",
    "an address of the VM's own network": "10.0.2.4",
    "the last address of its own network": "10.0.2.255",
}
for what, address in closed.items():
    answer = guest.tcp(address, 80, seconds=1.5)
    check(answer in ("prohibited", "nothing"), f"T5: public: a guest does not reach {what}", answer)
check(guest.tcp(PUBLIC, 80, source="10.0.2.99", seconds=1) == "nothing", "public: a guest sends from no address but its own")
said = guest.log()
check(any("10.9.9.9:80" in line and "--allow 10.9.9.9:80" in line for line in said),
      "public: what was denied is said, with the flag that would allow it", said)
for _ in range(2):
    guest.tcp(PRIVATE, 82)
said = [line for line in guest.log() if "10.9.9.9:82" in line]
check(len(said) == 1, "public: and not said again at once", said)
until = time.monotonic() + 60
while (counts := guest.counts()).get("denied", 0) < len(closed) and time.monotonic() < until:
    time.sleep(0.2)
check(counts["denied"] >= len(closed) and counts["connections"] >= 5 and counts["sent_bytes"] > 60000 < counts["received_bytes"]
      and counts["refused_frames"] >= 1, "public: what passed and what was denied is counted", counts)
check(guest.dns("public.test") == [PUBLIC], "public: names are asked of the host's resolver, on its loopback", guest.dns("public.test"))
check(guest.dns("nothing.test") == 3, "public: a name that is not there is not there")
check(guest.dns("loopback.test") != ["127.0.0.1"], "public: a name is not the loopback")
check(guest.dns("many.test") == "truncated", "public: an answer that does not fit a datagram is cut, and says so")
check(guest.dns_stream("many.test") == many, "public: over TCP all of it comes", guest.dns_stream("many.test"))
check(guest.dns_stream("loopback.test") != ["127.0.0.1"], "public: over TCP a name is not the loopback either")
check(guest.tcp(frames.DNS, 54) == "prohibited", "public: the answerer has no other port")
check(guest.end() == 0, "the network process ends with what it reports to")

# ---- What config.toml opens to a builder ----

guest = policy("@builder", "host:80")
check(guest.tcp(frames.GATEWAY, 80) == "open", "builder: a port of this host's loopback that is named is reached")
check(guest.tcp(frames.GATEWAY, 22) == "prohibited", "T5: builder: another port is not")
check(guest.tcp(PRIVATE, 80) == "open", "builder: a private address is reached")
for what in "a cloud's metadata", "this host's public address", "this host's second address in its network":
    answer = guest.tcp(closed[what], 80, seconds=1.5)
    check(answer in ("prohibited", "nothing"), f"T5: builder: {what} is not reached", answer)
guest.end()
guest = policy("@builder")
check(guest.tcp(frames.GATEWAY, 80) == "prohibited", "T5: builder: nothing of this host's loopback is reached unless it is named")
guest.end()

# ---- Limits ----

guest = policy("@public", "connections=3", "queries=5")
opened = [guest.tcp(PUBLIC, 80) for _ in range(4)]
check(opened == ["open"] * 3 + ["prohibited"], "connections: no more are open at a time than the limit says", opened)
check(any("3 connections are open already; allowed with --net-connections" in line for line in guest.log()),
      "connections: that is said, with the option that allows more")
codes = guest.dns_burst("public.test", 40)
check(2 in codes and 0 in codes, "queries: what is asked faster than the limit says gets no answer", codes)
check(any("more than 5 a second; allowed with --net-queries" in line for line in guest.log()),
      "queries: that is said, with the option that allows more")
until = time.monotonic() + 60
while not (counts := guest.counts()).get("names_limited") and time.monotonic() < until:
    time.sleep(0.2)
check(counts.get("too_many") == 1 and counts.get("names_limited", 0) > 1, "what is beyond the limits is counted", counts)
guest.end()


def seconds_for(n, *limits):
    """How long n exchanges of 50,000 bytes each way take."""
    guest = policy("@public", *limits)
    guest.mac_of(4)
    begun = time.monotonic()
    same = all(guest.udp(PUBLIC, 7, b"x" * 50000) == b"x" * 50000 for _ in range(n))
    took = time.monotonic() - begun
    check(guest.end() == 0 and same, f"rate: nothing is lost with {' '.join(limits)}")
    return took


# A tenth of a second's bytes are there from the beginning, and the last frame is not waited for.
for limit in "rate=250000/0", "rate=0/250000":
    took = seconds_for(8, limit)
    check(took > 1.2, f"rate: 400,000 bytes take their time with {limit}", took)

# ---- Frames in a file ----

captured = os.environ["MVM_TEST_TMP"] + f"/frames.{os.getpid()}"
file = os.open(captured, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
guest = frames.Guest(os.environ["MVMCTL"], ["@public", f"pcap={file}"], keep_fds=[file])
guest.tcp(PUBLIC, 80)
guest.tcp(PRIVATE, 80)
guest.end()
data, found, at = open(captured, "rb").read(), [], 24
while at < len(data):
    kept, size = struct.unpack("II", data[at + 8:at + 16])
    found.append(data[at + 16:at + 16 + kept])
    at += 16 + kept
ends = {(frame[26:30], frame[30:34]) for frame in found if frame[23] == 6}
check(ends >= {(frames.packed(frames.OWN), frames.packed(PUBLIC)), (frames.packed(PUBLIC), frames.packed(frames.OWN))},
      "pcap: frames of both ways are in the file", ends)
check((frames.packed(frames.OWN), frames.packed(PRIVATE)) in ends, "pcap: those that were denied, too", ends)

# ---- resolv.conf changes ----

second = frames.serve_dns("127.0.0.54", {"public.test": "8.8.8.8"})
texts = ["nameserver 127.0.0.53\n"]
guest = policy("@public", resolv=lambda: texts[-1])
first = guest.dns("public.test")
texts.append("# another network\nnameserver 127.0.0.54\n")
until = time.monotonic() + 60
while (now := guest.dns("public.test")) != ["8.8.8.8"] and time.monotonic() < until:
    time.sleep(0.2)  # the text is asked for once a second, with a query
check((first, now) == ([PUBLIC], ["8.8.8.8"]), "resolvers are those that resolv.conf names now", (first, now))
guest.end()

print(f"1..{count}")
sys.exit(failed != 0)
