#!/usr/bin/env python3
"""Stands in front of the API and falsifies one kind of answer: the negative control of the Postman tests.

    tools/lying_proxy.py HOST:PORT age|status|duplicate

age: a last position has no age (its schema says it has). status: what is taken is answered with 200
rather than 202. duplicate: every history has its first position twice. Prints its own address.
"""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Proxy(BaseHTTPRequestHandler):
    """Passes each request on, and the answer back, but for the lie."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    lie = ""

    def relay(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        connection = http.client.HTTPConnection(self.upstream, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        data = b"" if self.command == "HEAD" else answer.read()
        status, data = self.falsified(answer.status, answer.headers.get_content_type(), data)
        self.send_response(status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    do_GET = do_HEAD = do_POST = do_DELETE = relay

    def falsified(self, status, content_type, data):
        if self.lie == "status" and status == 202:
            return 200, data
        if content_type == "application/json" and data and self.path.startswith("/api/"):
            value = json.loads(data)
            if self.lie == "age":
                value.pop("age_s", None)
            if self.lie == "duplicate" and "/locations" in self.path and value.get("data"):
                value["data"].insert(0, value["data"][0])
            data = json.dumps(value).encode()
        return status, data

    def log_message(self, *_):
        """Keeps quiet."""


def main():
    Proxy.upstream, Proxy.lie = sys.argv[1:3]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
