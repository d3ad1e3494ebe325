# SPDX-License-Identifier: Apache-2.0
"""Receivers of alerts, on loopback: a real SMTP server (aiosmtpd) that insists on TLS and a password, and an HTTPS server for webhooks.
aiosmtpd comes from PyPI in the versions of peers/mail-requirements.txt into a virtual environment in the build folder; a test program
that imports this module runs on inside it."""
import email
import email.policy
import hashlib
import hmac
import http.server
import json
import os
import ssl
import sys
import threading

from harness import BIN, defer, fresh, free_port_base, making_shared, run

VENV = os.path.join(os.path.dirname(os.path.abspath(BIN)), "mail-venv")
REQUIREMENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "mail-requirements.txt")
try:
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult
except ImportError:
    python = os.path.join(VENV, "bin", "python3")
    if sys.executable == python:
        raise
    with making_shared():
        if not os.path.exists(os.path.join(VENV, "complete")):
            run(sys.executable, "-m", "venv", "--clear", VENV)
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS, timeout=600)
            open(os.path.join(VENV, "complete"), "w").close()
    os.execv(python, [python, "-B", *sys.argv])


class Authority:
    """A certificate for 127.0.0.1 and the PEM of the authority that vouches for it."""

    def __init__(self):
        folder = fresh("authority")
        os.mkdir(folder)
        path = lambda name: os.path.join(folder, name)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            "/CN=Test authority", "-keyout", path("ca.key"), "-out", path("ca.pem"))
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=receiver",
            "-keyout", path("key.pem"), "-out", path("request.pem"))
        with open(path("ext"), "w") as f:
            f.write("subjectAltName=IP:127.0.0.1\n")
        run("openssl", "x509", "-req", "-in", path("request.pem"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-days", "2",
            "-extfile", path("ext"), "-out", path("cert.pem"))
        with open(path("ca.pem")) as f:
            self.pem = f.read()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(path("cert.pem"), path("key.pem"))


class Mailbox:
    """An SMTP server with STARTTLS (or TLS from the first byte) and AUTH; every mail that it took, parsed, with its receivers."""

    def __init__(self, authority, user="hub", password="sesame", implicit_tls=False):
        self.mails, self.refused_logins, self.refuse = [], 0, 0
        self.user, self.password = user, password
        tls = {"ssl_context": authority.context} if implicit_tls else {"tls_context": authority.context, "require_starttls": True}
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port_base(1), auth_required=True,
                                     auth_require_tls=not implicit_tls, authenticator=self.authenticate, **tls)
        self.controller.start()
        self.port = self.controller.port
        defer(self.controller.stop)

    def authenticate(self, server, session, envelope, mechanism, auth_data):
        good = (auth_data.login.decode(), auth_data.password.decode()) == (self.user, self.password)
        self.refused_logins += not good
        return AuthResult(success=good)

    async def handle_DATA(self, server, session, envelope):
        if self.refuse:
            self.refuse -= 1
            return "451 come back later"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail.receivers = envelope.rcpt_tos
        self.mails.append(mail)
        return "250 taken"


class Webhook:
    """An HTTPS server: `answer` is what it answers; every request, with what it answered."""

    def __init__(self, authority, answer=204):
        self.requests, self.answer = [], answer
        self.hang = threading.Event()   # set: takes a request and says nothing
        self.hanging = threading.Event()
        self.release = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = {"path": self.path, "headers": dict(self.headers), "body": body, "json": json.loads(body),
                           "status": outer.answer}
                outer.requests.append(request)
                if outer.hang.is_set():
                    request["status"] = 0
                    outer.hanging.set()
                    outer.release.wait(120)
                    return
                self.send_response(outer.answer)
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.socket = authority.context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}/alerts"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        defer(self.close)

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()

    def taken(self):
        return [r for r in self.requests if 200 <= r["status"] < 300]


def signature_is_right(request, secret):
    headers = request["headers"]
    want = hmac.new(secret.encode(), headers["X-Leeward-Timestamp"].encode() + b"." + request["body"], hashlib.sha256)
    return hmac.compare_digest("sha256=" + want.hexdigest(), headers["X-Leeward-Signature"])
