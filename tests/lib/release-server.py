"""Serves a release set over https on loopback, well or badly: the first part of the path says how.

Usage: release-server.py SET CERTIFICATE KEY LOG TOLD. Each request is a line in LOG: path and range. TOLD is a fifo: the
port goes to it once connections are accepted, and later what a test waits for.
"""

import http.server
import os
import ssl
import sys

folder, certificate, key, log_path, told_path = sys.argv[1:]
log = open(log_path, "a", buffering=1)
cuts = {}


def tell(text):
    with open(told_path, "w") as fifo:
        fifo.write("%s\n" % text)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def redirect(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        log.write("%s %s\n" % (self.path, self.headers.get("Range", "-")))
        how, name = self.path.strip("/").split("/", 1)
        large = name == "rootfs.ext4"
        here = "https://127.0.0.1:%d" % self.server.server_port
        if how == "https-redirect":
            return self.redirect("%s/good/%s" % (here, name))
        if how == "http-redirect" and large:
            return self.redirect("http://127.0.0.1:%d/good/%s" % (self.server.server_port, name))
        if how == "file-redirect" and large:
            return self.redirect("file://%s/%s" % (folder, name))
        if how == "loop" and large:
            return self.redirect("%s/loop/%s" % (here, name))
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            return self.send_error(404)
        data = open(path, "rb").read()
        size = len(data)
        if how == "endless" and large:
            self.send_response(200)
            self.end_headers()
            sent = 0
            try:
                while sent < 64 * size:
                    sent += self.wfile.write(data)
            finally:
                tell(sent // size)
            return None
        if how == "short" and large:
            data = data[: size // 2]
            size = len(data)
        if how == "large" and large:
            data += b"more"
            size = len(data)
        start = 0
        wanted = self.headers.get("Range")
        if wanted and how != "norange":
            start = int(wanted.split("=")[1].split("-")[0])
            if start >= size:
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, size - 1, size))
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        if how in ("stall", "stall-told") and large:
            self.wfile.write(data[: size // 2])
            if how == "stall-told":
                tell("half")
            self.rfile.read(1)  # until the client gives up
            return None
        # "cut": the first answer breaks off; "cut-always": every one does, and the second brings nothing.
        if large and (how == "cut" and not cuts.get(how) or how == "cut-always"):
            cuts[how] = cuts.get(how, 0) + 1
            data = data[: start + (size - start) // 2] if cuts[how] % 2 else data[:start]
        self.wfile.write(data[start:])
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
tell(server.server_port)
server.serve_forever()
