# SPDX-License-Identifier: Apache-2.0
"""A hub of its own with a private PostgreSQL, and a client that holds what it hears to the OpenAPI document."""
import glob
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading

from harness import BIN, ROOT, check, children_of, command_line, free_port_base, fresh, making_shared, run, start, stop, wait_until

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


def python_peers():
    """The folder of an environment with the packages of peers/requirements.txt, made when that is another file than last time. What it has can be
    imported from here on."""
    wanted = os.path.join(ROOT, "tests", "system", "peers", "requirements.txt")
    folder = os.path.join(os.path.dirname(os.path.abspath(BIN)), "python-peers")
    stamp = os.path.join(folder, "installed")
    with open(wanted, "rb") as f:
        version = hashlib.sha256(f.read() + sys.version.encode()).hexdigest()
    with making_shared():
        if not os.path.exists(stamp) or open(stamp).read() != version:
            run("python3", "-m", "venv", "--clear", folder, timeout=300)
            run(os.path.join(folder, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement", wanted, timeout=600)
            with open(stamp, "w") as f:
                f.write(version)
    sys.path += glob.glob(os.path.join(folder, "lib", "python3*", "site-packages"))
    return folder


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
        self.tls_context = None
        self.mine = threading.local()
        self.start()

    def start(self):
        self.process = start([os.path.join(BIN, "leeward-hub"), "--data", self.data, "--listen", f"127.0.0.1:{self.control_port}",
                              "--api-listen", f"127.0.0.1:{self.port}", *self.options], log=self.log, preexec_fn=None)
        self.tls_context = None
        wait_until(self.is_ready, "the hub to be ready", 90)
        with open(os.path.join(self.data, "admin.token")) as f:
            self.token = f.read().strip()

    def stop(self):
        return stop(self.process, grace_s=40)

    def is_ready(self):
        if self.process.poll() is not None:  # nothing to wait for any more
            raise RuntimeError(f"the hub ended: {self.words()[-600:]}")
        return os.path.exists(self.ca) and self.ask("GET", "/readyz", token=None).status == 200

    @property
    def ca(self):
        if "--api-certificate" in self.options:
            return self.options[self.options.index("--api-certificate") + 1]
        return os.path.join(self.data, "ca", "ca.pem")

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def sql(self, text, database="leeward"):
        """In the private PostgreSQL of the hub."""
        options = [word for pid in children_of(self.process.pid) for word in command_line(pid)]
        sockets = next(o.partition("=")[2] for o in options if o.startswith("unix_socket_directories="))
        return run("psql", "-X", "-q", "-A", "-t", "-h", sockets, "-U", "leeward", "-d", database, "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    def words(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def context(self):
        if not self.tls_context:
            self.tls_context = ssl.create_default_context(cafile=self.ca)
        return self.tls_context

    def connect(self, timeout=60):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(), timeout=timeout)

    def kept(self):
        """The connection of this thread, which stays open from one request to the next."""
        if not hasattr(self.mine, "connection"):
            self.mine.connection = self.connect()
        return self.mine.connection

    def tls(self, timeout=60):
        """A bare TLS connection, for what no HTTP client would send."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return self.context().wrap_socket(raw, server_hostname="127.0.0.1")

    def ask(self, method, path, body=None, token="", headers=None, connection=None):
        """token "": the administrator's; None: none. body: what JSON can say, or bytes as they are."""
        client = connection or self.kept()
        send = dict(headers or {})
        token = getattr(self, "token", None) if token == "" else token
        if token:
            send["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            send.setdefault("Content-Type", "application/json")
        fresh_one = client.sock is None
        try:
            client.request(method, path, body, send)
            return Answer(client.getresponse())
        except (ConnectionError, http.client.HTTPException, ssl.SSLError):
            client.close()
            if fresh_one or connection:  # else the hub had closed a connection that was idle for long
                raise
            return self.ask(method, path, body, token, headers)

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
