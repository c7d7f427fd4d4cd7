"""Ways out of a VM's network, each tried by a guest that makes its own frames, against a network process in a network namespace
of the test's own. What gets through is seen by a socket that hears every interface there, the loopback too: no listener has to be
in the right place.

  escapes.py host MVMCTL LAYER...   in a new network namespace: prints "ok NAME" or "not ok NAME: why" for each way
  escapes.py guest MVMCTL PUMP IMAGE OPTION...
                                    the same with a real guest: a VM of that image, in which PUMP (frame-pump.c) sends the frames;
                                    OPTIONs are up's
  escapes.py far                    the internet behind it: every address, a resolver at 9.9.9.53, a listener at port 443

LAYER is as for `mvmctl --network` (src/net/process.h).
"""
import ctypes, ipaddress, json, os, queue, re, select, socket, struct, subprocess, sys, threading, time

MAC = bytes.fromhex('525400123456')
ROUTER_MAC = bytes.fromhex('52550a000202')
GUEST, GUEST6, LINK6 = '10.0.2.15', 'fd6d:766d::5054:ff:fe12:3456', 'fe80::5054:ff:fe12:3456'
FIRST_PORT = 20000
RESOLVER = '9.9.9.53'
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58


# ---- Frames ----

def total(data):
    data += b'\0' * (len(data) % 2)
    s = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return s


def check(data):
    return struct.pack('!H', ~total(data) & 0xffff)


def ethernet(kind, payload, source=MAC, to=ROUTER_MAC):
    return to + source + struct.pack('!H', kind) + payload


def ip4(to, protocol, payload, source=GUEST, fragment=0x4000, options=b'', length=None):
    """The length is the true one unless it is given."""
    words = 5 + len(options) // 4
    head = struct.pack('!BBHHHBBH4s4s', 0x40 | words, 0, length or 4 * words + len(payload), 1, fragment, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(to)) + options
    return head[:10] + check(head) + head[12:] + payload


def ip6(to, protocol, payload, source=GUEST6, hops=64):
    return struct.pack('!IHBB', 6 << 28, len(payload), protocol, hops) + socket.inet_pton(socket.AF_INET6, source) + \
        socket.inet_pton(socket.AF_INET6, to) + payload


def pseudo(source, to, protocol, n):
    v6 = ':' in to
    pack = lambda a: socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, a)
    return pack(source) + pack(to) + struct.pack('!IHH', n, 0, protocol)


def with_check(data, at, source, to, protocol):
    c = check(pseudo(source, to, protocol, len(data)) + data)
    return data[:at] + c + data[at + 2:]


def syn(to, port, source, flags=2, sequence=1, acknowledge=0, from_port=40000):
    data = struct.pack('!HHIIBBHHH', from_port, port, sequence, acknowledge, 5 << 4, flags, 65535, 0, 0)
    return with_check(data, 16, source, to, TCP)


def datagram(to, port, source, payload=b'out', from_port=40000):
    data = struct.pack('!HHHH', from_port, port, 8 + len(payload), 0) + payload
    return with_check(data, 6, source, to, UDP)


def tcp(to, port, source=None, **more):
    if ':' in to:
        return ethernet(0x86dd, ip6(to, TCP, syn(to, port, source or GUEST6, **more), source or GUEST6))
    return ethernet(0x0800, ip4(to, TCP, syn(to, port, source or GUEST, **more), source or GUEST))


def udp(to, port, payload=b'out', from_port=40000):
    if ':' in to:
        return ethernet(0x86dd, ip6(to, UDP, datagram(to, port, GUEST6, payload, from_port)))
    return ethernet(0x0800, ip4(to, UDP, datagram(to, port, GUEST, payload, from_port)))


def echo(to, number):
    data = struct.pack('!BBHHH', 128 if ':' in to else 8, 0, 0, number, 1) + b'out'
    if ':' in to:
        return ethernet(0x86dd, ip6(to, ICMP6, with_check(data, 2, GUEST6, to, ICMP6)))
    return ethernet(0x0800, ip4(to, ICMP, data[:2] + check(data) + data[4:]))


def nd(kind, body, source=LINK6, to='ff02::1'):
    data = struct.pack('!BBH', kind, 0, 0) + body
    return ethernet(0x86dd, ip6(to, ICMP6, with_check(data, 2, source, to, ICMP6), source, 255), to=bytes.fromhex('333300000001'))


def arp(op, mac, address, target):
    return ethernet(0x0806, struct.pack('!HHBBH6s4s6s4s', 1, 0x0800, 6, 4, op, mac, socket.inet_aton(address), b'\0' * 6,
                                        socket.inet_aton(target)), to=b'\xff' * 6)


def dhcp(mac):
    bootp = struct.pack('!BBBBIHH16s6s202s4s', 1, 1, 6, 0, 7, 0, 0, b'', mac, b'', bytes.fromhex('63825363')) + b'\x35\1\1\xff'
    data = with_check(struct.pack('!HHHH', 68, 67, 8 + len(bootp), 0) + bootp, 6, '0.0.0.0', '255.255.255.255', UDP)
    return ethernet(0x0800, ip4('255.255.255.255', UDP, data, '0.0.0.0'), to=b'\xff' * 6)


def question(name, kind=1, number=7):
    labels = b''.join(bytes([len(p)]) + p.encode() for p in name.split('.')) + b'\0'
    return struct.pack('!HHHHHH', number, 0x100, 1, 0, 0, 0) + labels + struct.pack('!HH', kind, 1)


# ---- The ways ----

def seen(address):
    """As the log has it: an address that wraps an IPv4 one is that."""
    a = ipaddress.ip_address(address)
    n = int(a)
    if a.version == 6 and n > 1:
        if n >> 32 in (0, 0xffff, 0xffff0000, 0x64ff9b << 64):
            return str(ipaddress.IPv4Address(n & 0xffffffff))
        if n >> 112 == 0x2002:
            return str(ipaddress.IPv4Address(n >> 80 & 0xffffffff))
        if n >> 96 == 0x20010000:
            return str(ipaddress.IPv4Address(n >> 64 & 0xffffffff))
    return str(a)


CLOSED = ['10.0.2.2', '10.0.2.3', '10.0.2.4', '10.0.2.15', '10.0.2.255', '127.0.0.1', '127.1.2.3', '0.0.0.0', '169.254.169.254',
          '169.254.1.1', '168.63.129.16', '100.100.100.200', '192.0.0.192', '192.168.77.2', '192.168.77.1', '10.1.2.3', '172.16.0.1',
          '100.64.0.1', '198.41.0.9', '198.18.0.1', '240.0.0.1', '192.0.2.1',
          '::1', '::', 'fe80::1', 'fd77::1', 'fd77::2', 'fd00:ec2::254', 'fec0::1', 'fd6d:766d::2', 'fd6d:766d::3', '2001:db8::1',
          '::ffff:127.0.0.1', '::ffff:10.0.2.2', '::ffff:192.168.77.1', '::ffff:192.168.77.2', '::127.0.0.1', '::ffff:0:127.0.0.1',
          '64:ff9b::7f00:1', '64:ff9b::a9fe:a9fe', '64:ff9b:1::7f00:1', '2002:7f00:1::1', '2001:0:7f00:1::']


class Ways:
    """Each with a port of its own, which nothing else uses: (name, frames, what the log says)."""

    def __init__(self):
        self.list = []
        for a in CLOSED:
            shown = seen(a)
            self.add(f'a connection to {a}', lambda port, a=a: [tcp(a, port)],
                     lambda port, s=shown: f'TCP to [{s}]:{port}' if ':' in s else f'TCP to {s}:{port}')
        for a in ['127.0.0.1', '10.0.2.2', '192.168.77.1', '169.254.169.254', 'fd77::1', '::1']:
            self.add(f'a datagram to {a}', lambda port, a=a: [udp(a, port)],
                     lambda port, s=seen(a): f'UDP to [{s}]:{port}' if ':' in s else f'UDP to {s}:{port}')
        for a in ['192.168.77.1', '127.0.0.1', '10.0.2.4', 'fd77::1', '::1']:
            self.add(f'an echo request to {a}', lambda port, a=a: [echo(a, port)], lambda port, s=seen(a): f'echo to {s} was denied')
        self.add_frames()

    def add(self, name, frames, says):
        port = FIRST_PORT + len(self.list)
        self.list.append((name, port, frames(port), says(port)))

    def drop(self, name, says, frames):
        self.add(name, frames, lambda port: f'it {says}')

    def add_frames(self):
        many, options = 'is for many', 'has options or extension headers'
        self.drop('a datagram to 224.0.0.251', many, lambda p: [udp('224.0.0.251', p)])
        self.drop('a datagram to 255.255.255.255', many, lambda p: [udp('255.255.255.255', p)])
        self.drop('a datagram to ff02::fb', many, lambda p: [udp('ff02::fb', p)])
        self.drop('a connection in a frame for all', many, lambda p: [b'\xff' * 6 + tcp('8.8.8.8', p)[6:]])
        s = lambda p: syn('8.8.8.8', p, GUEST)
        self.drop('fragments of a TCP header', 'is a fragment', lambda p: [
            ethernet(0x0800, ip4('8.8.8.8', TCP, s(p)[:8], fragment=0x2000)), ethernet(0x0800, ip4('8.8.8.8', TCP, s(p)[8:], fragment=1))])
        self.drop('a later fragment over the ports of the first', 'is a fragment', lambda p: [
            ethernet(0x0800, ip4('8.8.8.8', TCP, s(443), fragment=0x2000)), ethernet(0x0800, ip4('8.8.8.8', TCP, s(p), fragment=0))][:1])
        self.drop('a fragment of IPv6', 'is a fragment', lambda p: [ethernet(0x86dd, ip6('2606:4700::1', 44, struct.pack('!BBHI', TCP, 0, 0, 1) +
                                                                                  syn('2606:4700::1', p, GUEST6)))])
        route = struct.pack('!BBBBI', TCP, 2, 0, 1, 0) + socket.inet_pton(socket.AF_INET6, '::1')
        for kind, head in (('for every hop', 0), ('of destination options', 60), ('of a route', 43), ('of mobility', 135)):
            extension = route if head == 43 else struct.pack('!BBBBI', TCP, 0, 1, 4, 0)
            self.drop(f'a connection behind a header {kind}', options if head != 135 else 'is none of TCP, UDP and echo requests',
                      lambda p, head=head, e=extension: [ethernet(0x86dd, ip6('2606:4700::1', head, e + syn('2606:4700::1', p, GUEST6)))])
        self.drop('two extension headers, one behind the other', options, lambda p: [ethernet(0x86dd, ip6('2606:4700::1', 60, struct.pack(
            '!BBBBI', 60, 0, 1, 4, 0) + struct.pack('!BBBBI', TCP, 0, 1, 4, 0) + syn('2606:4700::1', p, GUEST6)))])
        self.drop('a source route over 127.0.0.1', options, lambda p: [ethernet(0x0800, ip4('8.8.8.8', TCP, s(p), options=bytes.fromhex('830704')
                                                                                       + socket.inet_aton('127.0.0.1') + b'\0'))])
        protocol = 'is none of TCP, UDP and echo requests'
        self.drop('IPv4 within IPv4', protocol, lambda p: [ethernet(0x0800, ip4('8.8.8.8', 4, ip4('127.0.0.1', TCP, s(p))))])
        self.drop('IPv6 within IPv4', protocol, lambda p: [ethernet(0x0800, ip4('8.8.8.8', 41, ip6('::1', TCP, syn('::1', p, GUEST6))))])
        self.drop('SCTP', protocol, lambda p: [ethernet(0x0800, ip4('8.8.8.8', 132, struct.pack('!HHII', 40000, p, 0, 0)))])
        source = "has another source address than the VM's"
        self.drop('a connection from 127.0.0.1', source, lambda p: [tcp('8.8.8.8', p, '127.0.0.1')])
        self.drop('a connection from another guest', source, lambda p: [tcp('8.8.8.8', p, '10.0.2.16')])
        self.drop('a connection from ::1', source, lambda p: [tcp('2606:4700::1', p, '::1')])
        self.drop('a connection from no address', source, lambda p: [tcp('2606:4700::1', p, '::')])
        self.drop("a frame with the router's MAC", "has another MAC address than the VM's",
                  lambda p: [ethernet(0x0800, ip4('8.8.8.8', TCP, s(p)), source=ROUTER_MAC)])
        claim = "claims what is not the VM's"
        router = socket.inet_pton(socket.AF_INET6, 'fd6d:766d::2')
        self.drop("ARP for the router's address", claim, lambda p: [arp(2, MAC, '10.0.2.2', '10.0.2.2'), arp(1, MAC, '10.0.2.3', '10.0.2.2')])
        self.drop("ARP with another's MAC", claim, lambda p: [arp(1, ROUTER_MAC, '10.0.2.15', '10.0.2.2')])
        self.drop("a neighbour message for the router's address", claim, lambda p: [nd(136, struct.pack('!I', 0x20 << 24) + router + b'\2\1' + MAC)])
        self.drop('a router advertisement', claim, lambda p: [nd(134, bytes.fromhex('40000708') + b'\0' * 8)])
        self.drop('a redirect', claim, lambda p: [nd(137, b'\0' * 4 + router + router)])
        self.drop("DHCP for another's MAC", claim, lambda p: [dhcp(ROUTER_MAC)])
        self.drop('a frame with a VLAN', 'is neither IPv4 nor IPv6 nor ARP', lambda p: [ethernet(0x8100, b'\0\1\x08\0' + ip4('8.8.8.8', TCP, s(p)))])
        short = 'is shorter than it says'
        self.drop('a cut frame', short, lambda p: [tcp('8.8.8.8', p)[:-4]])
        self.drop('a length that lies', short, lambda p: [ethernet(0x0800, ip4('8.8.8.8', TCP, s(p), length=1500))])
        self.drop('an oversized frame', 'is longer than a frame may be', lambda p: [ethernet(0x0800, ip4('8.8.8.8', UDP, s(p)) + b'\0' * 65530)])
        self.drop('a broken checksum', 'has a header that contradicts itself', lambda p: [tcp('8.8.8.8', p)[:24] + b'\0\0' + tcp('8.8.8.8', p)[26:]])


# ---- The host's side ----

def sh(*words):
    subprocess.run(words, check=True)


class Ears:
    """Every packet of this namespace, on every interface."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self.heard = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            data, where = self.socket.recvfrom(65535)
            if where[1] == 0x0800:
                protocol, to, at = data[9], socket.inet_ntop(socket.AF_INET, data[16:20]), (data[0] & 15) * 4
            elif where[1] == 0x86dd:
                protocol, to, at = data[6], socket.inet_ntop(socket.AF_INET6, data[24:40]), 40
            else:
                continue
            ports = struct.unpack('!HH', data[at:at + 4]) if len(data) >= at + 4 else (0, 0)
            self.heard.append((protocol, to, ports[1], data[at] if len(data) > at else 0))

    def ports(self):
        """Of destinations, but those that a reply goes to."""
        return {port for protocol, to, port, first in self.heard if protocol in (TCP, UDP)}

    def echoes(self):
        return [to for protocol, to, port, first in self.heard if (protocol, first) in ((ICMP, 8), (ICMP6, 128))]


class Network:
    """A card, and the log of what is denied."""
    traffic = None  # of a VM: what inspect says at the end

    def wait_for(self, wanted, seconds=60):
        """The first frame that wanted() takes, None."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if frame := self.receive(left):
                self.answer_neighbour(frame)
                if wanted(frame):
                    return frame
        return None

    def wait_for_log(self, *texts, seconds=30):
        """Whether all of them are in the log: its lines come by another way than frames."""
        end = time.monotonic() + seconds
        while not (there := all(text in self.log_text() for text in texts)) and time.monotonic() < end:
            time.sleep(0.1)
        return there

    def answer_neighbour(self, frame):
        """libslirp asks for the guest's MAC, as any router does."""
        if frame[12:14] == b'\x86\xdd' and frame[20] == ICMP6 and frame[54] == 135:
            to = socket.inet_ntop(socket.AF_INET6, frame[22:38])
            self.send(nd(136, struct.pack('!I', 0x60 << 24) + frame[62:78] + b'\2\1' + MAC, GUEST6, to))
        elif frame[12:14] == b'\x08\x06' and frame[21] == 1:
            self.send(arp(2, MAC, GUEST, socket.inet_ntoa(frame[28:32])))

    def connects(self, to, port):
        """SYN, and whether SYN and ACK come back; False as well for a reset or an ICMP error."""
        kind, at = (0x86dd, 54) if ':' in to else (0x0800, 34)
        self.send(tcp(to, port, from_port=41000))

        def answers(f):
            if f[12:14] != struct.pack('!H', kind):
                return False
            error = f[at] < 128 if kind == 0x86dd else True
            return f[20 if kind == 0x86dd else 23] in (ICMP, ICMP6) and error or f[at + 2:at + 4] == struct.pack('!H', 41000)
        got = self.wait_for(answers)
        return bool(got) and got[at + 2:at + 4] == struct.pack('!H', 41000) and got[at + 13] & 0x12 == 0x12

    def lookup(self, name, kind=1):
        """What the answerer says: (rcode, addresses), None."""
        number = int.from_bytes(os.urandom(2), 'big')
        self.send(udp('10.0.2.3', 53, question(name, kind, number), from_port=42000))
        f = self.wait_for(lambda f: f[12:14] == b'\x08\0' and f[23] == UDP and f[42:44] == struct.pack('!H', number))
        if not f:
            return None
        message = f[42:]
        records = struct.unpack('!H', message[6:8])[0]
        at = 12 + len(name) + 2 + 4
        found = []
        for _ in range(records):
            n = struct.unpack('!H', message[at + 10:at + 12])[0]
            found.append(str(ipaddress.ip_address(message[at + 12:at + 12 + n])))
            at += 12 + n
        return message[3] & 15, found



class Process(Network):
    """A network process without a VM."""

    def __init__(self, mvmctl, layers):
        self.card, card = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log, log = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.resolv, resolv = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = [card.fileno(), log.fileno(), resolv.fileno()]
        self.card.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.text = b''
        threading.Thread(target=self.tell_resolvers, daemon=True).start()
        threading.Thread(target=self.read_log, daemon=True).start()
        self.process = subprocess.Popen([mvmctl, '--network', *map(str, fds), *layers], pass_fds=fds)
        for s in (card, log, resolv):
            s.close()

    def tell_resolvers(self):
        while self.resolv.recv(16):
            self.resolv.send(f'nameserver {RESOLVER}\n'.encode())

    def read_log(self):
        while data := self.log.recv(65536):
            self.text += data

    def send(self, *frames):
        for f in frames:
            self.card.send(f)

    def receive(self, seconds):
        return self.card.recv(70000) if select.select([self.card], [], [], seconds)[0] else b''

    def log_text(self):
        return self.text.decode()

    def end(self):
        """Whether it ran till now."""
        ran = self.process.poll() is None
        self.log.close()
        self.process.terminate()
        self.process.wait()
        return ran


class Guest(Network):
    """A VM whose kernel sends what it is told."""

    def __init__(self, mvmctl, pump, image, options):
        self.mvmctl, self.name, self.frames = mvmctl, 'escapes', queue.Queue()
        sh(mvmctl, 'up', image, '--name', self.name, *options)
        sh(mvmctl, 'cp', pump, f'{self.name}:/tmp/pump')
        self.process = subprocess.Popen([mvmctl, 'exec', self.name, '--', '/tmp/pump'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdout.read(4)
        threading.Thread(target=self.read_frames, daemon=True).start()

    def read_frames(self):
        while len(head := self.process.stdout.read(4)) == 4:
            self.frames.put(self.process.stdout.read(struct.unpack('<I', head)[0]))

    def send(self, *frames):
        for f in frames:
            self.process.stdin.write(struct.pack('<I', len(f)) + f)
        self.process.stdin.flush()

    def receive(self, seconds):
        try:
            return self.frames.get(timeout=seconds)
        except queue.Empty:
            return b''

    def log_text(self):
        with open(f'{os.environ["MVM_HOME"]}/vms/{self.name}/agent.log', errors='replace') as f:
            return f.read()

    def counts_denials(self):
        """As inspect has them, a second later at most."""
        text = subprocess.run([self.mvmctl, 'inspect', self.name, '--json'], check=True, stdout=subprocess.PIPE).stdout
        self.traffic = json.loads(text)['traffic'] or {}
        return self.traffic.get('denied', 0) >= 40

    def end(self):
        ran = self.process.poll() is None
        end = time.monotonic() + 30
        while not self.counts_denials() and time.monotonic() < end:
            time.sleep(0.2)
        self.process.stdin.close()
        self.process.wait()
        sh(self.mvmctl, 'down', self.name)
        return ran


def report(name, good, why=''):
    print(f'ok {name}' if good else f'not ok {name}: {why}', flush=True)


def set_up():
    """This namespace is the host's: a loopback, an address in a private net and a public one; behind it is everything."""
    sh('ip', 'link', 'set', 'lo', 'up')
    far = subprocess.Popen(['unshare', '--net', sys.executable, __file__, 'far'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    far.stdout.readline()
    sh('ip', 'link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', str(far.pid))
    for a in ('192.168.77.2/24', '198.41.0.9/32'):
        sh('ip', 'address', 'add', a, 'dev', 'near')
    sh('ip', 'address', 'add', 'fd77::2/64', 'dev', 'near', 'nodad')
    sh('ip', 'link', 'set', 'near', 'up')
    far.stdin.write('go\n')
    far.stdin.flush()
    far.stdout.readline()
    sh('ip', 'route', 'add', 'default', 'via', '192.168.77.1')
    sh('ip', '-6', 'route', 'add', 'default', 'via', 'fd77::1')
    for a in ('192.168.77.1', 'fd77::1'):
        socket.create_connection((a, 443), 10).close()  # the way is open: what does not get through was stopped
    return far


def try_ways(network, ears, under, without=()):
    ways = [w for w in Ways().list if w[0] not in without]
    for name, port, frames, says in ways:
        network.send(*frames)
    # What is asked last is answered when all before it has been judged.
    report(f'{under}: the answerer still answers', network.lookup('ok.example.org') == (0, ['8.8.8.8']))
    network.wait_for_log(*(says for _, _, _, says in ways))
    through, log = ears.ports(), network.log_text()
    echoes = ears.echoes()
    for name, port, frames, says in ways:
        why = 'it got through' if port in through else f'it is not logged as {says!r}' if says not in log else ''
        report(f'{under}: {name} has no way out, and is logged', not why, why)
    report(f'{under}: no echo request got through', not echoes, str(echoes))
    report(f'{under}: {len(ways)} ways were tried', len(ways) >= 40)


def try_names(network, ears, under, listed):
    answers = [network.lookup('rebind.example.org')]
    network.far_says('rebind')
    answers.append(network.lookup('rebind.example.org'))
    report(f'{under}: an allowed name that later answers 127.0.0.1 has no address then', answers == [(0, ['8.8.8.8']), (0, [])], str(answers))
    for name in ('loopback', 'private', 'metadata', 'own'):
        got = network.lookup(f'{name}.example.org')
        # An own public address is not known from its answer, but closed (below).
        report(f'{under}: {name}.example.org has no address', got == (0, [] if name != 'own' else ['198.41.0.9']), str(got))
    got = network.lookup('mapped.example.org', 28)
    report(f'{under}: mapped.example.org has no address', got == (0, []), str(got))
    for a in ('127.0.0.1', '192.168.77.1', '169.254.169.254', '198.41.0.9'):
        report(f'{under}: {a} is closed after a name answered it', not network.connects(a, 443))
    got = network.lookup('secret-payload.evil.example', 16)
    asked = 'secret-payload' in network.far_says('log')
    if listed:
        report(f'{under}: a tunnel by names reaches no resolver', got == (3, []) and not asked, f'{got} {asked}')
        ears.heard.clear()
        network.send(udp('8.8.4.4', 53, question('secret.evil.example')), udp('2001:4860::8844', 53, question('secret.evil.example')), tcp('8.8.4.4', 53))
        network.lookup('ok.example.org')
        time.sleep(0.3)
        out = [h for h in ears.heard if h[2] == 53 and h[1] != RESOLVER]
        report(f'{under}: DNS elsewhere has no way out', not out, str(out))
        report(f'{under}: it is logged', network.wait_for_log('UDP to 8.8.4.4:53 was denied'))
    # A test that reaches nothing shows nothing.
    report(f'{under}: an allowed address is reached', network.connects('8.8.8.8', 443))
    if listed:
        network.lookup('six.example.org', 28)
    report(f'{under}: an allowed address is reached over IPv6', network.connects('2606:4700::8', 443))


def try_all(under, listed, make, without=()):
    far = set_up()
    ears = Ears()
    network = make()
    network.far_says = lambda what: (far.stdin.write(what + '\n'), far.stdin.flush(), far.stdout.readline())[2]
    try_ways(network, ears, under, without)
    try_names(network, ears, under, listed)
    report(f'{under}: it runs on', network.end())
    if network.traffic is not None:
        report(f'{under}: inspect says how often something was denied', network.traffic.get('denied', 0) >= 40, str(network.traffic))
    far.stdin.close()
    far.wait()


def host(mvmctl, layers):
    try_all('under ' + layers[0][1:], layers[0] == '@listed', lambda: Process(mvmctl, layers))


def guest(mvmctl, pump, image, options):
    """The VM's supervisor reads this namespace's resolv.conf; a guest's kernel sends no frame that is longer than its MTU."""
    path = f'{os.environ["MVM_HOME"]}/resolv.conf'
    with open(path, 'w') as f:
        f.write(f'nameserver {RESOLVER}\n')
    sh('mount', '--bind', path, '/etc/resolv.conf')
    listed = '--allow' in options
    try_all('a guest under ' + ('a list' if listed else 'public'), listed, lambda: Guest(mvmctl, pump, image, options), ('an oversized frame',))


# ---- The internet ----

NAMES = {'ok': '8.8.8.8', 'loopback': '127.0.0.1', 'private': '192.168.77.1', 'metadata': '169.254.169.254', 'own': '198.41.0.9',
         'mapped': '::ffff:127.0.0.1', 'six': '2606:4700::8'}


def serve_dns(log, rebound):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((RESOLVER, 53))
    while True:
        data, who = s.recvfrom(2000)
        end = data.index(b'\0', 12) + 1
        name = data[13:end].decode('latin-1').lower()
        log.append(name)
        first = re.split(r'[^a-z-]', name)[0]
        address = NAMES.get(first)
        if first == 'rebind':
            address = '127.0.0.1' if rebound.is_set() else '8.8.8.8'
        kind = data[end:end + 2]
        raw = b''
        if address and kind == b'\0\1' and ':' not in address:
            raw = socket.inet_aton(address)
        elif address and kind == b'\0\x1c' and ':' in address:
            raw = socket.inet_pton(socket.AF_INET6, address)
        answer = b'\xc0\x0c' + kind + struct.pack('!HIH', 1, 0, len(raw)) + raw if raw else b''
        s.sendto(data[:2] + b'\x81\x80\0\1' + struct.pack('!HHH', bool(raw), 0, 0) + data[12:end + 4] + answer, who)


def far():
    print('here', flush=True)
    sys.stdin.readline()
    sh('ip', 'link', 'set', 'lo', 'up')
    sh('ip', 'address', 'add', '192.168.77.1/24', 'dev', 'far')
    sh('ip', 'address', 'add', 'fd77::1/64', 'dev', 'far', 'nodad')
    sh('ip', 'link', 'set', 'far', 'up')
    sh('ip', 'route', 'add', '198.41.0.9', 'via', '192.168.77.2')
    # Every other address is here.
    sh('ip', 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', 'main')
    sh('ip', '-6', 'route', 'add', 'local', '::/0', 'dev', 'lo', 'table', 'main')
    log, rebound = [], threading.Event()
    threading.Thread(target=serve_dns, args=(log, rebound), daemon=True).start()
    listener = socket.create_server(('', 443), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    print('ready', flush=True)
    for line in sys.stdin:
        if line == 'rebind\n':
            rebound.set()
        print(' '.join(log), flush=True)


ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: nothing stays when the test is killed
if sys.argv[1] == 'far':
    far()
elif sys.argv[1] == 'guest':
    guest(*sys.argv[2:5], sys.argv[5:])
else:
    host(sys.argv[2], sys.argv[3:])
