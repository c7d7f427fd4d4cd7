"""Clients of published ports: ports.py WHAT PORT [...] prints in a few words what came of it."""
import concurrent.futures, os, resource, socket, sys, threading, time

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def connect(port):
    s = socket.create_connection((HOST, port), timeout=60)
    return s


def all_of(s):
    parts = []
    while part := s.recv(65536):
        parts.append(part)
    return b"".join(parts)


def ask(port):
    with connect(port) as s:
        s.sendall(REQUEST)
        return all_of(s)


def good(answer):
    return answer.startswith(b"HTTP/1.") and b" 200 " in answer.split(b"\r\n")[0] and len(answer.split(b"\r\n\r\n", 1)[1]) > 0


def serial(port, n):
    return f"{sum(good(ask(port)) for _ in range(int(n)))} answered"


def parallel(port, n):
    """All are connected before the first asks."""
    n = int(n)
    barrier = threading.Barrier(n)

    def one(_):
        with connect(port) as s:
            barrier.wait(120)
            s.sendall(REQUEST)
            return good(all_of(s))

    threading.stack_size(256 * 1024)
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return f"{sum(pool.map(one, range(n)))} answered"


def halfclose(port):
    with connect(port) as s:
        s.sendall(b"got it")
        s.shutdown(socket.SHUT_WR)
        return "closed, and " + all_of(s).decode() + " back"


def bulk(port, n):
    data = os.urandom(int(n))
    with connect(port) as s:
        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        back = all_of(s)
        sender.join()
        return f"{len(back)} {'the same' if back == data else 'changed'}"


def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect((HOST, port))
    got = []
    for n in 1, 1400, 9000:
        s.send(bytes(n))
        got.append(len(s.recv(65536)))
    return " ".join(map(str, got))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def idle(port, n, pid):
    """Connections that say nothing, as many as this host's queues take; then one that does."""
    n = int(n)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = descriptors(pid)
    sockets = []
    for _ in range(min(n, hard - 100) if hard > 0 else n):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((HOST, port))
        sockets.append(s)
    time.sleep(1)
    during = descriptors(pid)
    for s in sockets:
        s.close()
    with connect(port) as s:
        s.settimeout(60)
        s.sendall(b"x")
        served = s.recv(1) == b"x"
    return f"{'bounded' if during - before <= 210 else f'{during - before} descriptors'}, {'served' if served else 'lost'}"


def settled(pid):
    """Waits until the supervisor holds no more than a few connections' worth of descriptors."""
    least = descriptors(pid)
    for _ in range(100):
        time.sleep(0.1)
        least = min(least, descriptors(pid))
        if least < 60:
            return "settled"
    return f"{least} descriptors"


what, arguments = sys.argv[1], sys.argv[2:]
if what == "settled":
    print(settled(arguments[0]))
else:
    print(globals()[what](int(arguments[0]), *arguments[1:]))
