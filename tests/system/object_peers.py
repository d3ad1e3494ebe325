# SPDX-License-Identifier: Apache-2.0
"""The storage services that the tests talk to, Azurite and s3rver, and leeward-object on them. They come from npm in the versions of
peers/package-lock.json, into the build folder. A test program calls bring_up() before main()."""
import base64
import contextlib
import datetime
import email.utils
import hashlib
import hmac
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from harness import BIN, ROOT, check, defer, free_port_base, fresh, making_shared, run, start, wait_until

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
TOOL = os.path.join(BIN, "leeward-object")
# Azurite's own account, which is the same everywhere.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"


# ---- the peers ----

def peers():
    """The folder of the programs; installed when the lock file is another one than last time."""
    folder = os.path.join(os.path.dirname(os.path.abspath(BIN)), "peers")
    with open(os.path.join(HERE, "package-lock.json"), "rb") as f:
        wanted = hashlib.sha256(f.read()).hexdigest()
    stamp = os.path.join(folder, "installed")
    with making_shared():
        if not os.path.exists(stamp) or open(stamp).read() != wanted:
            if not shutil.which("npm"):
                run(os.path.join(ROOT, "cmake", "install-packages.sh"), os.path.join(HERE, "packages.txt"), timeout=300)
            os.makedirs(folder, exist_ok=True)
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(os.path.join(HERE, name), folder)
            run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder, timeout=300)
            with open(stamp, "w") as f:
                f.write(wanted)
    return os.path.join(folder, "node_modules", ".bin")


def listens(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    except urllib.error.HTTPError:
        pass
    return True


def hmac_base64(key, text):
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def make_container(endpoint, name):
    """Signed by hand, so that this does not stand on what is tested."""
    now = email.utils.formatdate(usegmt=True)
    text = (f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{now}\nx-ms-version:{VERSION}\n"
            f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container")
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT", headers={
        "x-ms-date": now, "x-ms-version": VERSION, "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{hmac_base64(ACCOUNT_KEY, text)}"})
    urllib.request.urlopen(request, timeout=30).close()


def container_sas(name, rights, hours):
    end = (datetime.datetime.utcnow() + datetime.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = "\n".join([rights, "", end, f"/blob/{ACCOUNT}/{name}", "", "", "", VERSION, "c", "", "", "", "", "", "", ""])
    return urllib.parse.urlencode({"sv": VERSION, "sr": "c", "sp": rights, "se": end, "sig": hmac_base64(ACCOUNT_KEY, text)})


_started = {}


def endpoint_of(peer):
    if isinstance(_started[peer], Exception):
        raise _started[peer]
    return _started[peer]


def bring_up():
    """Both for all tests: what a test starts itself ends with it. Those of a peer that does not come up fail, the others run."""
    for peer, begin in (("azurite", azurite), ("s3rver", s3rver)):
        try:
            _started[peer] = begin()
        except Exception as problem:
            _started[peer] = problem


def azurite():
    port = free_port_base(1)
    start([os.path.join(peers(), "azurite-blob"), "--blobPort", port, "--location", fresh("azurite"), "--silent",
           "--skipApiVersionCheck", "--disableTelemetry"], log=fresh("azurite.log"))
    wait_until(lambda: listens(port), "Azurite", timeout=90)
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    make_container(endpoint, "box")
    return endpoint


def s3rver():
    port = free_port_base(1)
    folder = fresh("s3rver")
    os.mkdir(folder)
    start([os.path.join(peers(), "s3rver"), "-d", folder, "-a", "127.0.0.1", "-p", port, "-s", "--no-vhost-buckets",
           "--configure-bucket", "bucket"], log=fresh("s3rver.log"),
          env=dict(os.environ, NODE_OPTIONS="--openssl-legacy-provider"))  # its markers of pages are made with DES
    wait_until(lambda: listens(port), "s3rver", timeout=90)
    return f"http://127.0.0.1:{port}"


# ---- the tool ----

class Store:
    def __init__(self, url, endpoint="", **environment):
        names = {"endpoint": endpoint, **environment}
        self.url = url
        self.env = dict(os.environ, **{"LEEWARD_OBJECT_" + k.upper(): str(v) for k, v in names.items() if v})

    def __call__(self, *arguments, ok=(0,)):
        return run(TOOL, self.url, *arguments, ok=ok, env=self.env)

    def fails(self, *arguments):
        """What it says when it must fail."""
        result = subprocess.run([TOOL, self.url, *arguments], env=self.env, capture_output=True, text=True, timeout=120)
        check(result.returncode == 1, f"ended with {result.returncode}: {result.stdout}{result.stderr}")
        return result.stderr


def azure(prefix="", endpoint=None, secret=None, sas=None, **more):
    more.update({"sas": sas} if sas else {"secret": secret or ACCOUNT_KEY})
    return Store(f"azure://{ACCOUNT}/box{prefix}", endpoint or endpoint_of("azurite"), **more)


def s3(prefix="", bucket="bucket", endpoint=None, **more):
    return Store(f"s3://{bucket}{prefix}", endpoint or endpoint_of("s3rver"), key_id="S3RVER", secret="S3RVER", **more)


def file_of(data):
    path = fresh("data")
    with open(path, "wb") as f:
        f.write(data)
    return path


def s3_error(code):
    return f"<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()


# ---- a service that verifies SigV4, which s3rver does not; from the AWS documentation, not from our code ----

class StrictS3(http.server.BaseHTTPRequestHandler):
    objects = {}
    markers = []
    parts = {}  # upload id: {number: bytes}
    completions = []  # "fails": the next one says 200 and fails in its body
    accepted = set()  # whose signatures were right, by their User-Agent

    def signature(self, body):
        fields = dict(part.strip().split("=", 1) for part in self.headers["Authorization"].split(" ", 1)[1].split(","))
        path, _, query = self.path.partition("?")
        names = fields["SignedHeaders"].split(";")
        canonical = "\n".join([self.command, path, "&".join(sorted(query.split("&"))),
                               *[f"{n}:{self.headers[n].strip()}" for n in names], "", ";".join(names),
                               hashlib.sha256(body).hexdigest()])
        _, scope = fields["Credential"].split("/", 1)
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4right"
        for step in scope.split("/"):
            key = hmac.new(key, step.encode(), hashlib.sha256).digest()
        must = {"host", "x-amz-date", "x-amz-content-sha256"} | {n for n in ("range", "if-none-match") if n in self.headers}
        return must <= set(names) and hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == fields["Signature"]

    def answer(self, code, body=b"", etag=None):
        self.send_response_only(code)
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        if not self.signature(body):
            return self.answer(403, s3_error("SignatureDoesNotMatch"))
        self.accepted.add(self.headers["User-Agent"].split("/")[0])
        parameters = urllib.parse.parse_qs(query, keep_blank_values=True)
        if "uploads" in parameters or "uploadId" in parameters:
            return self.multipart(path, parameters, body)
        if self.command == "PUT":
            taken = path in self.objects and self.headers.get("If-None-Match") == "*"
            self.objects.setdefault(path, body)
            return self.answer(412 if taken else 200)
        if self.command == "DELETE":
            self.objects.pop(path, None)
            return self.answer(204)
        if query:
            marker = urllib.parse.parse_qs(query).get("continuation-token", [""])[0]
            self.markers.append(marker)
            more = "" if marker else "<NextContinuationToken>+a/b= &amp;%41~</NextContinuationToken>"
            return self.answer(200, f"<ListBucketResult>{more}</ListBucketResult>".encode())
        span = self.headers.get("Range")
        if path not in self.objects or not span:
            return self.answer(200 if path in self.objects else 404, self.objects.get(path, b""))
        first, last = map(int, span[6:].split("-"))
        return self.answer(206, self.objects[path][first:last + 1])

    def multipart(self, path, parameters, body):
        upload = parameters.get("uploadId", [""])[0]
        if upload and upload not in self.parts:
            return self.answer(404, s3_error("NoSuchUpload"))
        if self.command == "PUT":
            self.parts[upload][int(parameters["partNumber"][0])] = body
            return self.answer(200, etag=f'"{hashlib.md5(body).hexdigest()}"')
        if self.command == "GET" and upload:
            rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>&quot;{hashlib.md5(b).hexdigest()}&quot;</ETag>"
                           f"<Size>{len(b)}</Size></Part>" for n, b in sorted(self.parts[upload].items()))
            return self.answer(200, f"<ListPartsResult>{rows}</ListPartsResult>".encode())
        if self.command == "GET":
            rows = "".join(f"<Upload><Key>{i[:-2]}</Key><UploadId>{i}</UploadId></Upload>" for i in self.parts)
            return self.answer(200, f"<ListMultipartUploadsResult>{rows}</ListMultipartUploadsResult>".encode())
        if self.command == "POST" and not upload:
            upload = path.removeprefix("/bucket/") + "+/"
            self.parts[upload] = {}
            return self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
                                    "</InitiateMultipartUploadResult>".encode())
        if self.command == "POST":
            if self.completions and self.completions.pop(0) == "fails":
                return self.answer(200, s3_error("InternalError"))
            check(body.count(b"<Part>") == len(self.parts[upload]), "the completion names other parts")
            self.objects[path] = b"".join(b for _, b in sorted(self.parts.pop(upload).items()))
            return self.answer(200, b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
        return self.answer(405)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve

    def log_message(self, *_):
        pass

    @classmethod
    def begin(cls):
        """A fresh one that listens; its endpoint."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        defer(server.shutdown)
        cls.objects, cls.markers, cls.parts, cls.completions, cls.accepted = {}, [], {}, [], set()
        return f"http://127.0.0.1:{server.server_port}"


# ---- faults between us and a peer ----

class FaultProxy:
    """An HTTP proxy in front of a peer. `fault(number, method, path)` is asked for each request (from 1) and says what happens to it:
        None         it passes
        503          (or another status) is the answer, the peer never hears of it
        "cut"        the connection ends before the peer hears of it
        "lost"       the peer does it, the connection ends instead of an answer
        "torn"       the peer does it, the answer breaks off in the middle of its body (of its head, when it has none)
        "liar"       a GET's answer has half its body and says so
        "slow"       the answer comes after 300 ms"""

    def __init__(self, endpoint):
        self.origin = urllib.parse.urlsplit(endpoint)
        self.fault = lambda number, method, path: None
        self.seen = []
        self.written = []  # paths of the PUTs that the peer took
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                proxy.serve(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that went away is no news here
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        defer(self.server.shutdown)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}{self.origin.path}"

    def serve(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.seen.append((handler.command, handler.path))
        fault = self.fault(len(self.seen), handler.command, handler.path)
        if fault == "cut":
            return self.hang_up(handler)
        if isinstance(fault, int):
            return self.answer(handler, fault, [], b"")
        status, headers, content = self.ask(handler, body)
        if handler.command == "PUT" and status < 300:
            self.written.append(handler.path)
        if fault == "slow":
            time.sleep(0.3)
        if fault == "lost":
            return self.hang_up(handler)
        if fault == "liar" and handler.command == "GET":
            content = content[:len(content) // 2]
        if fault == "torn":
            return self.tear(handler, status, content)
        self.answer(handler, status, headers, content)

    def ask(self, handler, body):
        peer = http.client.HTTPConnection(self.origin.hostname, self.origin.port, timeout=60)
        try:
            peer.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                peer.putheader(name, value)
            peer.endheaders(body or None)
            answer = peer.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            peer.close()

    @staticmethod
    def answer(handler, status, headers, content):
        length = next((v for k, v in headers if k.lower() == "content-length"), len(content))
        handler.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(length if handler.command == "HEAD" else len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def tear(self, handler, status, content):
        handler.wfile.write(b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n" % (status, len(content) or 10))
        if content:
            handler.wfile.write(b"\r\n" + content[:len(content) // 2])
        self.hang_up(handler)

    @staticmethod
    def hang_up(handler):
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)
