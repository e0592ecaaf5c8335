"""
A replica for the gateway's tests: it remembers what it was asked, and does what the body says.

`sleep <seconds>` answers later, `die` closes the connection without an answer, `stream` sends one
line, waits until `go_on` is set, and sends another; everything else is sent back behind the
replica's name. As a program (`replica.py <socket>`) it can be killed.
"""

import json
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_UNIX


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.calls.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
        time.sleep(self.server.stall)
        command, _, argument = body[:100].decode().partition(" ")
        if command == "die":
            self.close_connection = True
            return
        if command == "stream":
            self._stream()
            return
        if command == "sleep":
            time.sleep(float(argument))
        self._answer(f"{self.server.name}:".encode() + body)

    do_GET = do_POST  # noqa: N815 (the name that http.server looks for)

    def _answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"6\r\nfirst\n\r\n")
        self.server.go_on.wait(10)
        self.wfile.write(b"5\r\nlast\n\r\n0\r\n\r\n")

    def log_message(self, *_):
        pass


class Replica(ThreadingHTTPServer):
    address_family = AF_UNIX
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, path):
        self.address = str(path)
        self.name = Path(path).stem
        self.calls = []
        self.stall = 0.0
        """Seconds before every answer."""
        self.go_on = threading.Event()
        super().__init__(self.address, _Handler)

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, *_):
        """The other side may leave: that is what some tests do."""

    def serve(self):
        self.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    replica = Replica(sys.argv[1])
    sys.stdout.write(json.dumps({"listens": replica.address}) + "\n")
    sys.stdout.flush()
    replica.serve()
