"""Members of a named network and VMs outside of it, by frames (tests/lib/frames.py), without a VM: the test introduces them to each
other as their launchers do."""
import os
import socket
import struct
import subprocess
import sys
import time

if "MVM_IN_NAMESPACE" not in os.environ:
    if subprocess.run(["unshare", "-Urn", "true"], stderr=subprocess.DEVNULL).returncode:
        print("1..0 # SKIP user namespaces are refused here")
        sys.exit(0)
    os.execvpe("unshare", ["unshare", "-Urn", sys.executable, __file__], dict(os.environ, MVM_IN_NAMESPACE="1"))
sys.path.insert(0, os.environ["MVM_SOURCE"] + "/tests/lib")
from frames import Guest, GATEWAY, checksum, packed

count = failed = 0


def check(good, what, got=""):
    global count, failed
    count += 1
    failed += not good
    print(("ok" if good else "not ok"), count, "-", what, flush=True)
    if not good:
        print(f"# {what}: {got}", file=sys.stderr, flush=True)


def guest(layers, member=None):
    return Guest(os.environ["MVMCTL"], layers, "nameserver 127.0.0.1\n", member)


def eventually(what):
    until = time.monotonic() + 60
    while not (got := what()) and time.monotonic() < until:
        time.sleep(0.05)
    return got


# ---- Frames ----

def to(frame, mac):
    return mac + frame[6:]


def datagram(one, other, text=b"hello", v6=False):
    """From one guest to the other, at port 7."""
    there = other.own6 if v6 else other.own
    body = struct.pack("!HHHH", 5000, 7, 8 + len(text), 0) + text
    return to(one.ip(there, 17, one.summed(there, 17, body, 6, one.own6 if v6 else None)), other.mac)


def echo(one, other, kind):
    body = struct.pack("!BBHHH", kind, 0, 0, 7, 1) + b"ping"
    return to(one.ip(other.own, 1, body[:2] + struct.pack("!H", checksum(body)) + body[4:]), other.mac)


def next_of_peers(one):
    """The next frame that is none of the router's."""
    while (frame := one.receive(30)) and frame[6:8] in (b"\x52\x55", b"\x52\x56"):
        pass
    return frame


def arrives(one, other, frame):
    """What one sends is what the other gets next."""
    one.send(frame)
    return next_of_peers(other) == frame


def asks_arp(one, address, seconds=30):
    one.send(b"\xff" * 6 + one.mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + one.mac + packed(one.own) + bytes(6) + packed(address))
    frame = one.receive(seconds)
    return frame and frame[22:28] == frame[6:12] and frame[28:32] == packed(address) and frame[32:38] == one.mac and frame[22:28]


def asks_nd(one, address):
    group = "ff02::1:ff" + address[-7:]
    message = struct.pack("!BBHI", 135, 0, 0, 0) + packed(address) + b"\x01\x01" + one.mac
    frame = one.ip(group, 58, one.summed(group, 58, message, 2, None))
    one.send(b"\x33\x33" + packed(group)[12:] + frame[6:21] + b"\xff" + frame[22:])
    answer = one.receive(30)
    sums = answer and checksum(answer[22:54] + struct.pack("!II", 32, 58) + answer[54:]) == 0
    return sums and answer[54] == 136 and answer[62:78] == packed(address) and answer[80:86]


# ---- Two members and their names ----

web, db = guest(["@none"], (1, "app", "web")), guest(["@public"], (2, "app", "DB"))
check(web.dns("db.app.mvm.internal") == 3, "a member that is not there has no name", web.dns("db.app.mvm.internal"))
check(asks_arp(web, db.own, 1) is None, "and no MAC")
check(web.tcp(db.own, 80) == "prohibited", "and cannot be reached, which is said at once")
web.meets(db)
check(eventually(lambda: web.dns("db") == [db.own]), "a member is found by its name", web.dns("db"))
for name in "db.app", "DB.app.mvm.internal":
    check(web.dns(name) == [db.own], f"and by {name}", web.dns(name))
check(db.dns("web.app") == [web.own], "the other one finds it, too")
check(web.dns("web") == [web.own], "a member finds itself")
check(web.dns("db.other.mvm.internal") == 3, "by the name of another network it is not found")
check(web.dns("x.db.app.mvm.internal") == 3, "nor below its name")
check(asks_arp(web, db.own) == db.mac, "its MAC is told who asks by ARP", asks_arp(web, db.own))
check(asks_nd(web, db.own6) == db.mac, "and by neighbour solicitation", asks_nd(web, db.own6))
offered, _ = db.dhcp()
check(offered == db.own, "DHCP offers a member its own address", offered)

# ---- What passes between them ----

check(arrives(web, db, datagram(web, db)), "a datagram arrives as it was sent, also under policy none")
check(arrives(db, web, datagram(db, web, b"x" * 60000)), "a large one comes back")
check(arrives(web, db, datagram(web, db, v6=True)), "over IPv6, too")
syn = struct.pack("!HHIIBBHHH", 5000, 80, 1, 0, 0x50, 2, 65535, 0, 0)
check(arrives(web, db, to(web.ip(db.own, 6, web.summed(db.own, 6, syn, 16, None)), db.mac)), "a connection begins")
check(arrives(web, db, echo(web, db, 8)) and arrives(db, web, echo(db, web, 0)), "an echo request arrives, and its answer")
check(arrives(db, web, echo(db, web, 3)), "so does that a port cannot be reached")
check(web.tcp(GATEWAY, 80) == "prohibited", "the network's policy holds to the outside: this host's loopback is closed")
check(web.tcp("9.9.9.9", 80) == "prohibited", "and what policy none closes")

counts = eventually(lambda: (c := web.counts()).get("peer_frames_sent", 0) >= 4 and c)
check(counts and counts["peer_frames_received"] == 3, "frames to and from members are counted", web.counts())

# ---- A VM of another network, and one of none ----

other, alone = guest(["@full"], (2, "other", "db")), guest(["@full"])
for what, outside in ("a VM of another network", other), ("a VM of no network", alone):
    check(outside.tcp(web.own, 80) == "prohibited", f"{what} does not reach a member")
    outside.send(datagram(outside, web))
check(alone.dns("db.app.mvm.internal") == 3 and other.dns("web.app.mvm.internal") == 3, "members have no names outside")
check(arrives(db, web, datagram(db, web, b"next")), "nothing of theirs has arrived")
check(other.end() == 0 and alone.end() == 0, "they end")

# ---- A peer that lies ----


class Liar(Guest):
    """Without a network process: what it sends is on the wire."""

    def start(self):
        self.router = b"\x52\x55\x0a\0\2\2"

    def introduce(self, other):
        self.wire = self.wires[other]

    def send(self, frame):
        self.wire.send(frame)


liar = Liar(os.environ["MVMCTL"], [], None, (3, "app", "liar"))
liar.meets(db)
check(eventually(lambda: db.dns("liar") == [liar.own]), "another member comes")
good = datagram(liar, db)
fragment = good[:20] + b"\x20\0" + good[22:]
lies = {
    "another's MAC": good[:6] + web.mac + good[12:],
    "another's address": to(liar.ip(db.own, 17, good[34:], web.own), db.mac),
    "the router's address": to(liar.ip(db.own, 17, good[34:], GATEWAY), db.mac),
    "another's IPv6 address": to(liar.ip(db.own6, 17, good[34:], web.own6), db.mac),
    "a frame for another member": to(datagram(liar, web), db.mac),
    "a frame for the outside": to(liar.ip("9.9.9.9", 17, good[34:]), db.mac),
    "a frame for all": to(good, b"\xff" * 6),
    "a fragment": fragment[:24] + struct.pack("!H", checksum(fragment[14:24] + bytes(2) + fragment[26:34])) + fragment[26:],
    "a frame that is cut": good[:-3],
    "no frame": b"x",
    "an ARP answer for the router": to(b"\0" * 6 + liar.mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + liar.mac + packed(GATEWAY) +
                                       db.mac + packed(db.own), db.mac),
    "a router advertisement": to(liar.ip(db.own6, 58, liar.summed(db.own6, 58, struct.pack("!BBHI", 134, 0, 0, 0) + bytes(8), 2, None)), db.mac),
}
for what, frame in lies.items():
    liar.send(frame)
    check(arrives(liar, db, good), f"a peer's lie is refused: {what}")
said = [line for line in db.log() if "the VM liar" in line]
check(len(said) >= 5, "what was refused is said, with the peer's name", said)
check(arrives(web, db, datagram(web, db, b"still")), "other members are heard as before")

# ---- Ends ----

db.process.kill()
db.process.wait()
meanwhile = datagram(web, db, b"meanwhile")
web.send(meanwhile)
db.start()
check(next_of_peers(db) == meanwhile, "the network process that follows a killed one has the same wires")
check(arrives(db, web, datagram(db, web, b"back")) and db.dns("web") == [web.own], "and knows the others")
check(db.leaves() == 0, "a member ends")
for wire in db.wires.values():
    wire.close()
check(eventually(lambda: web.dns("db.app.mvm.internal") == 3), "its name goes with it")
check(web.tcp(db.own, 80) == "prohibited", "and its address")
again = guest(["@public"], (2, "app", "db2"))
again.meets(web)
check(eventually(lambda: web.dns("db2") == [again.own]), "another one gets its number")
check(arrives(web, again, datagram(web, again)), "and its frames")
check(again.leaves() == 0 and web.end() == 0, "the network processes end with what they report to")
print(f"1..{count}")
sys.exit(failed != 0)
