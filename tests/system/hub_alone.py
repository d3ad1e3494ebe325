# SPDX-License-Identifier: Apache-2.0
"""A hub of its own with a private PostgreSQL, and a client that holds what it hears to the OpenAPI document."""
import http.client
import json
import os
import re
import socket
import ssl

from harness import BIN, ROOT, check, defer, free_port_base, fresh, start, stop, undo, wait_until

DOCUMENT = os.path.join(ROOT, "hub", "api", "openapi.json")
COOKIE = "__Host-leeward"


def document():
    with open(DOCUMENT) as f:
        return json.load(f)


def operations(doc):
    """(operationId, method, path, operation), as the document has them."""
    for path, item in doc["paths"].items():
        for method, operation in item.items():
            if method in ("get", "post", "put", "patch", "delete"):
                yield operation["operationId"], method.upper(), path, operation


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.text = self.body.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.body)


class Hub:
    """leeward-hub alone: no agent, node or vault."""

    def __init__(self, *options, data=None):
        self.data = data or fresh("hub")
        base = free_port_base(2)
        self.port, self.control_port = base, base + 1
        self.options = options
        self.log = self.data + ".log"
        self.start()

    def start(self):
        self.process = start([os.path.join(BIN, "leeward-hub"), "--data", self.data, "--listen", f"127.0.0.1:{self.control_port}",
                              "--api-listen", f"127.0.0.1:{self.port}", *self.options], log=self.log, preexec_fn=None)
        wait_until(self.is_ready, "the hub to be ready", 90)
        with open(os.path.join(self.data, "admin.token")) as f:
            self.token = f.read().strip()

    def stop(self):
        return stop(self.process, grace_s=40)

    def is_ready(self):
        check(self.process.poll() is None, f"the hub ended: {self.words()[-600:]}")
        return os.path.exists(self.ca) and self.ask("GET", "/readyz", token=None).status == 200

    @property
    def ca(self):
        if "--api-certificate" in self.options:
            return self.options[self.options.index("--api-certificate") + 1]
        return os.path.join(self.data, "ca", "ca.pem")

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def words(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def context(self):
        return ssl.create_default_context(cafile=self.ca)

    def connect(self, timeout=60):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(), timeout=timeout)

    def tls(self, timeout=60):
        """A bare TLS connection, for what no HTTP client would send."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return self.context().wrap_socket(raw, server_hostname="127.0.0.1")

    def ask(self, method, path, body=None, token="", headers=None, connection=None):
        """token "": the administrator's; None: none. body: what JSON can say, or bytes as they are."""
        client = connection or self.connect()
        send = dict(headers or {})
        token = getattr(self, "token", None) if token == "" else token
        if token:
            send["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            send.setdefault("Content-Type", "application/json")
        try:
            client.request(method, path, body, send)
            return Answer(client.getresponse())
        finally:
            if not connection:
                client.close()

    def make_token(self, role, **more):
        answer = self.ask("POST", "/api/v1/tokens", {"name": f"{role}", "role": role, **more})
        check(answer.status == 201, f"no token: {answer.text}")
        return answer.json["token"]

    def make_user(self, name, role, password):
        answer = self.ask("POST", "/api/v1/users", {"name": name, "role": role, "password": password})
        check(answer.status == 201, f"no user: {answer.text}")

    def sign_in(self, name, password):
        """Headers that speak for a session."""
        answer = self.ask("POST", "/api/v1/session", {"username": name, "password": password}, token=None)
        check(answer.status == 201, f"{name} cannot sign in: {answer.text}")
        cookie = re.match(rf"{COOKIE}=([^;]+);", answer.headers["Set-Cookie"])
        return {"Cookie": f"{COOKIE}={cookie[1]}", "X-CSRF-Token": answer.json["csrf_token"]}
