"""An S3 service of other makers (moto, from PyPI) for tests, in memory.

Prints its port, and ends when its standard input is closed, so that it does not outlive the test that began it.

Two of S3's promises moto does not keep by itself, seen under load: a request that ends before its body does must change
nothing, and of several that create a key under a condition one must win. So bodies are read whole first, and requests
with a condition are carried out one at a time.
"""

import io
import os
import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


class Strict:
    """Stands before the service and keeps those two promises."""

    def __init__(self, service):
        self.service, self.one_at_a_time = service, threading.Lock()

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] not in ("PUT", "POST"):
            return self.service(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:
            start_response("400 Bad Request", [])
            return [b"<Error><Code>IncompleteBody</Code></Error>"]
        environ["wsgi.input"] = io.BytesIO(body)
        if "HTTP_IF_NONE_MATCH" not in environ and "HTTP_IF_MATCH" not in environ:
            return self.service(environ, start_response)
        with self.one_at_a_time:
            return self.service(environ, start_response)


threading.Thread(target=end_with_parent, daemon=True).start()
application = Strict(DomainDispatcherApplication(create_backend_app))
server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
