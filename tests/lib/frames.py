"""A guest made of frames: what a VM's network process lets through, without a VM.

    guest = Guest(mvmctl, ["@public"])            one that is alone
    guest = Guest(mvmctl, ["@public"], member=(3, "app", "db"))    the third member of a network
    guest.meets(other)            as their launchers introduce them to each other
    guest.tcp("9.9.9.9", 80)      "open", "reset", "prohibited" or "nothing"
    guest.dns("name.test")        the IPv4 addresses, or the answer's code
"""
import ipaddress
import os
import random
import select
import socket
import struct
import subprocess
import time

OWN, GATEWAY, DNS = "10.0.2.15", "10.0.2.2", "10.0.2.3"
GATEWAY6 = "fd6d:766d::2"


def packed(address):
    return ipaddress.ip_address(address).packed


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Guest:
    def __init__(self, mvmctl, layers, resolv=None, member=None, keep_fds=()):
        """resolv: the text of resolv.conf, or a function that gives it; None: the file is read. member: its number, its
        network's name and its own. keep_fds: what its network process gets besides."""
        number = member[0] if member else 0
        self.mac = bytes.fromhex("5254001234") + bytes([0x56 + number])
        self.own, self.own6 = f"10.0.2.{15 + number}", f"fd6d:766d::5054:ff:fe12:34{0x56 + number:02x}"
        self.mvmctl, self.layers, self.text, self.member = mvmctl, layers, resolv, member
        self.wires, self.keep_fds = {}, list(keep_fds)
        self.router = None
        self.card, self.network_card = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.start()

    def start(self):
        """Its network process: the first, or one that follows."""
        self.said = b""
        self.report, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.resolv, asks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self.text else (None, None)
        self.launcher, hears = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self.member else (None, None)
        fds = [self.network_card.fileno(), report.fileno(), asks.fileno() if asks else -1]
        words = [f"+{hears.fileno()}:{':'.join(map(str, self.member))}"] if self.member else []
        self.process = subprocess.Popen([self.mvmctl, "--network", *map(str, fds), *words, *self.layers],
                                        pass_fds=[fd for fd in fds + ([hears.fileno()] if hears else []) + self.keep_fds if fd >= 0])
        for end in filter(None, (report, asks, hears)):
            end.close()
        for other in self.wires:
            self.introduce(other)

    def introduce(self, other):
        number, _, name = other
        socket.send_fds(self.launcher, [struct.pack("I64s", number, name.encode())], [self.wires[other].fileno()])

    def meets(self, other):
        self.wires[other.member], other.wires[self.member] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.introduce(other.member)
        other.introduce(self.member)

    def leaves(self):
        """As its launcher ends."""
        for wire in self.wires.values():
            wire.close()
        return self.end()

    def end(self):
        self.report.close()
        return self.process.wait(60)

    def send(self, frame):
        self.card.send(frame)

    def receive(self, seconds):
        """The next frame, or None."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready = select.select([self.card] + ([self.resolv] if self.resolv else []), [], [], left)[0]
            if self.resolv in ready and self.resolv.recv(16):
                self.resolv.send((self.text() if callable(self.text) else self.text).encode())
            if self.card in ready:
                frame = self.card.recv(70000)
                if frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 135 and frame[62:78] == packed(self.own6):
                    self.advertise(str(ipaddress.ip_address(frame[22:38])))
                else:
                    return frame
        return None

    def advertise(self, to):
        """Answers a neighbour solicitation (RFC 4861): the router asks where the guest is."""
        message = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + packed(self.own6) + b"\x02\x01" + self.mac
        frame = self.ip(to, 58, self.summed(to, 58, message, 2, None))
        self.send(frame[:21] + b"\xff" + frame[22:])

    def lines(self):
        while select.select([self.report], [], [], 0.2)[0] and (text := self.report.recv(65536)):
            self.said += text
        return self.said.decode().splitlines()

    def log(self):
        """The lines for the log that it has said so far."""
        return [line for line in self.lines() if not line.startswith("#")]

    def counts(self):
        """What it has counted, as it said last."""
        words = [line for line in self.lines() if line.startswith("#")][-1:]
        words = words[0][1:].split() if words else []
        return dict(zip(words[::2], map(int, words[1::2])))

    def mac_of(self, version):
        """The router's."""
        if version == 6:
            return bytes.fromhex("525600000002")
        if not self.router:
            self.send(b"\xff" * 6 + self.mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + self.mac + packed(self.own) +
                      bytes(6) + packed(GATEWAY))
            while (frame := self.receive(30)) and not (frame[12:14] == b"\x08\x06" and frame[28:32] == packed(GATEWAY)):
                pass
            self.router = frame[22:28] if frame else b"\xff" * 6
        return self.router

    def ip(self, to, protocol, payload, source=None):
        if ":" in to:
            head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + packed(source or self.own6) + packed(to)
            return self.mac_of(6) + self.mac + b"\x86\xdd" + head + payload
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), random.randrange(65536), 0x4000, 64, protocol, 0)
        head += packed(source or self.own) + packed(to)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return self.mac_of(4) + self.mac + b"\x08\x00" + head + payload

    def summed(self, to, protocol, payload, at, source):
        """The payload with its checksum, which is at that offset."""
        ends = packed(source or (self.own6 if ":" in to else self.own)) + packed(to)
        pseudo = ends + (struct.pack("!II", len(payload), protocol) if ":" in to else struct.pack("!HH", protocol, len(payload)))
        return payload[:at] + struct.pack("!H", checksum(pseudo + payload) or 0xFFFF) + payload[at + 2:]

    def tcp(self, to, port, source=None, seconds=30):
        """What becomes of a connection."""
        own = random.randrange(20000, 60000)
        syn = struct.pack("!HHIIBBHHH", own, port, 1, 0, 0x50, 2, 65535, 0, 0)
        self.send(self.ip(to, 6, self.summed(to, 6, syn, 16, source), source))
        until = time.monotonic() + seconds
        while frame := self.receive(until - time.monotonic()):
            v6 = frame[12:14] == b"\x86\xdd"
            protocol, body = (frame[20], frame[54:]) if v6 else (frame[23], frame[34:])
            if protocol == 6 and struct.unpack("!HH", body[:4]) == (port, own):
                return "open" if body[13] & 0x12 == 0x12 else "reset"
            if protocol in (1, 58) and (body[0], body[1]) in ((3, 13), (1, 1), (3, 0), (3, 1)):
                return "prohibited" if (body[0], body[1]) in ((3, 13), (1, 1)) else "unreachable"
        return "nothing"

    def udp(self, to, port, payload, seconds=30):
        """The answer's payload, or None."""
        own = random.randrange(20000, 60000)
        datagram = struct.pack("!HHHH", own, port, 8 + len(payload), 0) + payload
        self.send(self.ip(to, 17, self.summed(to, 17, datagram, 6, None)))
        until = time.monotonic() + seconds
        while frame := self.receive(until - time.monotonic()):
            if frame[12:14] == b"\x08\x00" and frame[23] == 17 and struct.unpack("!HH", frame[34:38]) == (port, own):
                return frame[42:]
        return None

    def dhcp(self, seconds=30):
        """What is offered: the address, and the options by number (RFC 2132)."""
        discover = struct.pack("!BBBBIHH16s6s202s4s", 1, 1, 6, 0, 7, 0, 0, b"", self.mac, b"", bytes.fromhex("63825363")) + b"\x35\1\1\xff"
        datagram = self.summed("255.255.255.255", 17, struct.pack("!HHHH", 68, 67, 8 + len(discover), 0) + discover, 6, "0.0.0.0")
        self.send(b"\xff" * 6 + self.ip("255.255.255.255", 17, datagram, "0.0.0.0")[6:])
        until = time.monotonic() + seconds
        while frame := self.receive(until - time.monotonic()):
            if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == b"\0\x44":
                break
        else:
            return None, {}
        options, at = {}, 42 + 240
        while at < len(frame) and frame[at] != 255:
            options[frame[at]] = frame[at + 2:at + 2 + frame[at + 1]]
            at += 2 + frame[at + 1]
        return str(ipaddress.ip_address(frame[58:62])), options

    @staticmethod
    def question(name):
        return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0" + struct.pack("!HH", 1, 1)

    def dns_burst(self, name, n, seconds=30):
        """The codes of the answers to n queries that are sent at once."""
        self.mac_of(4)
        for port in range(20000, 20000 + n):
            query = struct.pack("!HHHHHH", port, 0x100, 1, 0, 0, 0) + self.question(name)
            datagram = struct.pack("!HHHH", port, 53, 8 + len(query), 0) + query
            self.send(self.ip(DNS, 17, self.summed(DNS, 17, datagram, 6, None)))
        codes, until = [], time.monotonic() + seconds
        while len(codes) < n and (frame := self.receive(until - time.monotonic())):
            if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:36] == b"\0\x35":
                codes.append(frame[45] & 15)
        return codes

    def dns(self, name, seconds=30):
        """The addresses, "truncated" where they are cut, or a code."""
        query = struct.pack("!HHHHHH", random.randrange(65536), 0x100, 1, 0, 0, 0) + self.question(name)
        answer = self.udp(DNS, 53, query, seconds)
        return "nothing" if answer is None else self.addresses(answer, len(query))

    def dns_stream(self, name, seconds=30):
        """The same over TCP."""
        own, at, answer, until = random.randrange(20000, 60000), 1, b"", time.monotonic() + seconds
        query = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + self.question(name)

        def send(flags, acknowledge=0, data=b""):
            head = struct.pack("!HHIIBBHHH", own, 53, at, acknowledge, 0x50, flags, 65535, 0, 0)
            self.send(self.ip(DNS, 6, self.summed(DNS, 6, head + data, 16, None)))

        send(2)
        while len(answer) < 2 or len(answer) < 2 + struct.unpack("!H", answer[:2])[0]:
            frame = self.receive(until - time.monotonic())
            if not frame:
                return "nothing"
            if frame[23] != 6 or struct.unpack("!HH", frame[34:38]) != (53, own):
                continue
            number, flags, data = struct.unpack("!I", frame[38:42])[0], frame[47], frame[34 + (frame[46] >> 4) * 4:]
            if flags & 4:
                return "reset"
            if flags & 2:
                at += 1
                send(0x18, number + 1, struct.pack("!H", len(query)) + query)
                at += 2 + len(query)
            elif data:
                answer += data
                send(0x10, number + len(data))
        send(0x11, number + len(data))
        return self.addresses(answer[2:], len(query))

    @staticmethod
    def addresses(answer, at):
        """Behind the question: the IPv4 addresses, or the answer's code."""
        code, records = answer[3] & 15, struct.unpack("!H", answer[6:8])[0]
        if answer[2] & 2:
            return "truncated"
        found = []
        for _ in range(records):
            while answer[at] and answer[at] < 0xC0:
                at += 1 + answer[at]
            at += 2 if answer[at] else 1
            kind, _, _, size = struct.unpack("!HHIH", answer[at:at + 10])
            found += [str(ipaddress.ip_address(answer[at + 10:at + 14]))] if kind == 1 else []
            at += 10 + size
        return found if code == 0 else code


def serve_dns(address, names):
    """A resolver in a thread: names maps a name to an address, or to a list of them."""
    import threading
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def loop():
        while True:
            query, asker = server.recvfrom(4096)
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
                at += 1 + query[at]
            question, kind = query[12:at + 5], struct.unpack("!H", query[at + 1:at + 3])[0]
            found = names.get(".".join(labels)) if kind == 1 else None
            known = ".".join(labels) in names
            found = [found] if isinstance(found, str) else found or []
            head = query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, len(found), 0, 0)
            records = [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + packed(address) for address in found]
            server.sendto(head + question + b"".join(records), asker)

    threading.Thread(target=loop, daemon=True).start()
    return server
