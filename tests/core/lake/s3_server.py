"""An S3 server on loopback for the tests, as a program: deltalake keeps Python's lock while it asks some questions.

It is moto, with what S3 has and moto lacks: a conditional put is one step, and an unknown key opens nothing. Prints its
port, then serves until its standard input ends. Under ``/-/`` tests ask what it has seen, and let answers get lost.
"""

from __future__ import annotations

import json
import logging
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEY = "known"
_REFUSED = b"<Error><Code>InvalidAccessKeyId</Code><Message>The key you gave does not exist.</Message></Error>"
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_XML = [("Content-Type", "application/xml")]


class Storage:
    """The application.

    Attributes:
        seen: method, path and ``If-None-Match`` of each request since a test last spoke to it.
        losing: whether the first answer to each commit gets lost, after the commit was carried out.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None]] = []
        self.losing = False
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._one = threading.Lock()

    def __call__(self, environ, start):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path.startswith("/-/"):
            return self._spoken_to(path, start)
        if f"Credential={KEY}/" not in environ.get("HTTP_AUTHORIZATION", ""):
            start("403 Forbidden", _XML)
            return [_REFUSED]
        with self._one:
            request = (method, path, environ.get("HTTP_IF_NONE_MATCH"))
            loses = self.losing and method == "PUT" and "/_delta_log/" in path and request not in self.seen
            self.seen.append(request)
            if not loses:
                return list(self._moto(environ, start))
            list(self._moto(environ, lambda *_status, **_more: None))
        start("503 Slow Down", _XML)
        return [_BUSY]

    def _spoken_to(self, path: str, start):
        start("200 OK", [("Content-Type", "application/json")])
        if path == "/-/seen":
            return [json.dumps(self.seen).encode()]
        self.losing = path == "/-/lose"
        self.seen.clear()
        return [b""]


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    http = make_server("127.0.0.1", 0, Storage(), threaded=True)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(http.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
