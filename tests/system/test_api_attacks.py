#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What somebody may try against the API: forged and expired tokens, SQL and headers in texts, paths that climb, bodies without end, slow
clients, ten thousand connections, guessing. Each is refused, told in the log, and leaves the hub answering others."""
import contextlib
import csv
import gzip
import io
import json
import os
import resource
import select
import socket
import ssl
import subprocess
import time
import urllib.parse

from harness import BIN, check, main, note, test, wait_until
from hub_alone import Hub, document, operations

hub = None
doc = document()
FLOOD = 10000
SQL = ("' OR 1=1 --", "x'; DROP TABLE users; --", "1) UNION SELECT password_hash FROM users --", "$1", "%")


def bring_up():
    global hub
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = FLOOD + 1000
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted) if hard != resource.RLIM_INFINITY else hard))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    hub = Hub("--api-failure-rate", "100000", "--api-rate", "100000")


def logged(word):
    return hub.words().count(word)


def raw(data, read=True, timeout=60):
    """Sends bytes as they are over TLS; what comes back until the end or the first answer."""
    with hub.tls(timeout) as s:
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the hub may have read enough before all is sent
            s.sendall(data)
        if not read:
            return b""
        s.settimeout(timeout)
        heard = b""
        try:
            while True:
                piece = s.recv(65536)
                heard += piece
                if not piece:
                    break
                head, end, body = heard.partition(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                if end and length and len(body) >= int(length[0].split(b":")[1]):
                    break
        except (ConnectionError, ssl.SSLError):
            pass
        return heard


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


@test
def forged_and_expired_tokens_are_refused_and_logged():
    good = hub.make_token("viewer")
    check(hub.ask("GET", "/api/v1/machines", token=good).status == 200, "a good token is refused")
    expired, deleted = hub.make_token("operator"), hub.make_token("admin")
    hub.sql("UPDATE api_tokens SET expires_at = now() - interval '1 second' WHERE name = 'operator'")
    hub.sql("DELETE FROM api_tokens WHERE name = 'admin'")
    forged = good[:-1] + ("A" if good[-1] != "A" else "B")
    before = logged("api_unauthenticated")
    for what, token in (("expired", expired), ("unknown, though well formed", deleted), ("with another checksum", forged), ("cut", good[:-5]), ("of another product", "ghp_" + good[4:]),
                        ("enrolment", "lwe_" + "A" * 43)):
        for method, path in (("GET", "/api/v1/machines"), ("POST", "/api/v1/tokens")):
            answer = hub.ask(method, path, token=token)
            check(answer.status == 401 and answer.json["code"] == "unauthenticated", f"a token that is {what}: {answer.status} {answer.text}")
    check(logged("api_unauthenticated") == before + 12, f"{logged('api_unauthenticated') - before} of 12 refusals are in the log")
    check(not any(t in hub.words() for t in (good, expired, deleted)), "a token is in the log")


@test
def sql_stays_text_in_every_parameter():
    tables = hub.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    made = hub.ask("POST", "/api/v1/sites", {"name": "plain", "description": SQL[1]})
    check(made.status == 201 and made.json["description"] == SQL[1], f"{made.status} {made.text}")
    asked = 0
    for name, method, path, operation in operations(doc):
        if method != "GET" or name in ("streamEvents", "completeOidc", "beginOidc"):
            continue
        for text in SQL:
            quoted = urllib.parse.quote(text, safe="")
            at = "".join(quoted if part.startswith("{") else part for part in path.replace("}", "{").split("{")[0::2]) if "{" not in path else \
                "/".join(quoted if part.startswith("{") else part for part in path.split("/"))
            paths = [at] if "{" in path else []
            for parameter in operation.get("parameters", []):
                where = doc["components"]["parameters"][parameter["$ref"].split("/")[-1]] if "$ref" in parameter else parameter
                if where["in"] == "query" and where["name"] != "wait":
                    paths.append(f"{at}?{where['name']}={quoted}")
            for one in paths:
                answer = hub.ask("GET", one)
                check(answer.status in (200, 400, 404, 409), f"{name} {one}: {answer.status} {answer.text[:200]}")
                check(answer.status != 200 or not answer.json.get("items"), f"{name} {one} finds {answer.text[:200]}")
                asked += 1
    for text in SQL:
        answer = hub.ask("POST", "/api/v1/session", {"username": text, "password": text}, token=None)
        check(answer.status in (401, 429), f"{text} signs in: {answer.status}")
    check(hub.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == tables and hub.sql("SELECT count(*) > 0 FROM users") == "t", "a table is gone")
    check("api_failed" not in hub.words(), "a text of a client reached the database as something else")
    note(f"{asked} requests with SQL in them")


@test
def headers_cannot_be_put_into_answers_or_the_log():
    token = f"Authorization: Bearer {hub.token}\r\n".encode()
    for what, data in (
            ("request id", b"GET /api/v1/version HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x0bSet-Cookie: evil=1\r\n\r\n"),
            ("request id with a new line in its code", b"GET /api/v1/version HTTP/1.1\r\nHost: x\r\nX-Request-Id: a%0d%0aSet-Cookie: evil=1\r\n\r\n"),
            ("path", b"GET /api/v1/machines/x%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n"),
            ("query", b"GET /api/v1/machines?name=x%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n"),
            ("return", b"GET /api/v1/session/oidc?return_to=/%0d%0aSet-Cookie:%20evil=1 HTTP/1.1\r\nHost: x\r\n\r\n")):
        answer = raw(data)
        head = answer.partition(b"\r\n\r\n")[0]
        check(status_of(answer) in (200, 303, 400, 404), f"{what}: {answer[:200]}")
        check(b"evil" not in head, f"{what} comes back in the head: {head}")
    check(not any(line.startswith("Set-Cookie") for line in hub.words().splitlines()), "a client wrote a line of the log")
    for what, data in (("two lengths", b"POST /api/v1/sites HTTP/1.1\r\nHost: x\r\n" + token + b"Content-Type: application/json\r\nContent-Length: 16\r\nContent-Length: 4\r\n\r\n{\"name\":\"smug\"}\r\n"),
                       ("length and chunks", b"POST /api/v1/sites HTTP/1.1\r\nHost: x\r\n" + token + b"Content-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                        b"0\r\n\r\nGET /api/v1/tokens HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n")):
        answer = raw(data)
        check(answer.count(b"HTTP/1.1 2") == 0, f"{what}: {answer[:300]}")


@test
def paths_do_not_climb():
    secrets = (hub.token.encode(), b"root:x:", b"PRIVATE KEY")
    for path in ("/../../../../etc/passwd", "/api/v1/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/%252e%252e/etc/passwd", "//etc/passwd",
                 "/assets/../../../../../etc/passwd", "/assets/%2e%2e%2f%2e%2e%2fetc/passwd", "/\\..\\..\\etc\\passwd", "/api/v1/machines/..%2f..%2fadmin.token", "/.%00./etc/passwd",
                 f"/..{hub.data}/admin.token", f"/{hub.data}/api.key", f"/assets/..{hub.data}/api.key", "/api/v1/openapi.json/../../../admin.token"):
        for credentials in (b"", f"Authorization: Bearer {hub.token}\r\n".encode()):
            answer = raw(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + credentials + b"\r\n")
            check(not any(s in answer for s in secrets), f"{path} gives {answer[:300]}")
            check(status_of(answer) in (None, 200, 301, 302, 303, 400, 401, 404), f"{path}: {answer[:200]}")
            check(status_of(answer) != 200 or b"text/html" in answer, f"{path}: {answer[:300]}")


@test
def bodies_without_end_are_cut():
    head = b"POST /api/v1/sites HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + hub.token.encode() + b"\r\nContent-Type: application/json\r\n"
    answer = raw(head + b"Content-Length: 10000000000\r\n\r\n")
    check(status_of(answer) == 413, f"10 GB announced: {answer[:200]}")
    answer = raw(head + b"Content-Length: 99999999999999999999999\r\n\r\n")
    check(status_of(answer) in (400, 413), f"more than a number holds: {answer[:200]}")
    sent, piece = 0, b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
    with hub.tls() as s:
        s.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 64:
                s.sendall(piece)
                sent += 1
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass
    check(sent < 64, "a body of 64 MiB was read to its end")
    for what, body in (("deep", b"[" * 100000), ("deep objects", b'{"a":' * 100000), ("numbers", b'{"name": 1e999999}'), ("no UTF-8", b'{"name": "\xff\xfe"}'), ("NUL", b'{"name": "a\\u0000b"}')):
        answer = hub.ask("POST", "/api/v1/sites", body)
        check(answer.status == 400, f"{what}: {answer.status} {answer.text[:200]}")
    answer = raw(b"GET /api/v1/version HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (1 << 20) + b"\r\n\r\n")
    check(status_of(answer) in (None, 400, 413, 431), f"a head of 1 MiB: {answer[:200]}")
    check("status=413" in hub.words(), "the refusal is not in the log")
    check(hub.ask("GET", "/api/v1/version", token=None).status == 200, "the hub does not answer any more")


def closed(s):
    """Whether the other side has ended the connection."""
    try:
        return s.recv(65536, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@test
def slow_clients_are_cut_and_others_are_served():
    """Half a head, a byte a second; a TLS hello that never ends; a body that trickles."""
    slow = []
    for i in range(60):
        raw_socket = socket.create_connection(("127.0.0.1", hub.port), timeout=60)
        if i % 3 == 0:
            raw_socket.sendall(b"\x16\x03\x01")
            slow.append((raw_socket, None))
            continue
        tls = hub.context().wrap_socket(raw_socket, server_hostname="127.0.0.1")
        tls.sendall(b"GET /api/v1/version HTTP/1.1\r\nHost: x\r\n" if i % 3 == 1 else
                    b"POST /api/v1/sites HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + hub.token.encode() + b"\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{")
        slow.append((tls, b"X-A: b\r\n" if i % 3 == 1 else b" "))
    worst, ended, begin = 0.0, 0, time.monotonic()

    def all_are_cut():
        nonlocal ended, worst
        for entry in list(slow):
            s, more = entry
            try:
                if more:
                    s.sendall(more)
                s.setblocking(False)
                over = s.recv(65536) == b""
            except (BlockingIOError, ssl.SSLWantReadError):
                over = False
            except OSError:
                over = True
            finally:
                s.settimeout(60)
            if over:
                s.close()
                slow.remove(entry)
                ended += 1
        asked = time.monotonic()
        check(hub.ask("GET", "/api/v1/machines").status == 200, "others are not served")
        worst = max(worst, time.monotonic() - asked)
        return not slow

    wait_until(all_are_cut, "all slow clients to be cut", 90, every=1)
    note(f"{ended} slow clients were cut within {time.monotonic() - begin:.0f} s; another waited {worst:.2f} s at most")
    check("api_clients_too_slow" in hub.words(), "slow clients are not in the log")


def open_many(count, addresses):
    """Connections that say nothing, from those addresses; begun without waiting for any."""
    many = []
    for i in range(count):
        s = socket.socket()
        s.setblocking(False)
        s.bind((addresses[i % len(addresses)], 0))
        s.connect_ex(("127.0.0.1", hub.port))
        many.append(s)
        if i % 200 == 199:  # lets the listener's queue be emptied
            queue = select.poll()
            queue.register(s, select.POLLOUT)
            queue.poll(2000)
    return many


def memory_bytes():
    with open(f"/proc/{hub.process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) << 10


def descriptors():
    return len(os.listdir(f"/proc/{hub.process.pid}/fd"))


@test
def ten_thousand_connections_are_bounded():
    count = min(FLOOD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    check(count == FLOOD, f"this machine lets a process open {count} connections only")
    one_address = open_many(count, ["127.0.1.1"])
    fds, memory = descriptors(), memory_bytes()
    check(fds < 700, f"one address holds {fds} descriptors of the hub")
    hub.mine.__dict__.clear()
    wait_until(lambda: hub.ask("GET", "/api/v1/machines").status == 200, "somebody else to be served beside 10,000 connections of one address", 30)
    for s in one_address:
        s.close()
    many_addresses = open_many(count, [f"127.0.2.{i}" for i in range(1, 41)])
    fds, memory = max(fds, descriptors()), max(memory, memory_bytes())
    check(hub.process.poll() is None, "the hub died")
    check(fds < 2500 and memory < 1 << 30, f"{fds} descriptors, {memory >> 20} MiB")
    for s in many_addresses:
        s.close()
    wait_until(lambda: hub.ask("GET", "/api/v1/machines").status == 200, "the hub to serve again after 10,000 connections of 40 addresses", 90)
    note(f"at most {fds} descriptors and {memory >> 20} MiB")
    check("api_connections_full" in hub.words(), "connections that were turned away are not in the log")


@test
def guessing_and_floods_are_slowed_down_and_logged():
    own = Hub("--api-failure-rate", "1", "--api-rate", "1")
    for _ in range(2000):
        answer = own.ask("GET", "/api/v1/machines", token="lwt_" + "A" * 49)
        if answer.status != 401:
            break
    check(answer.status == 429 and int(answer.headers["Retry-After"]) >= 1 and answer.json["code"] == "rate_limited", f"guessing: {answer.status} {answer.text}")
    check(own.ask("GET", "/healthz", token=None).status == 200, "a probe of an orchestrator is refused too")
    wait_until(lambda: own.ask("GET", "/api/v1/machines").status == 200, "the address to be listened to again", 60)
    for _ in range(2000):
        answer = own.ask("GET", "/api/v1/machines")
        if answer.status != 200:
            break
    check(answer.status == 429 and answer.headers["Retry-After"], f"a flood: {answer.status} {answer.text}")
    check(answer.headers["RateLimit-Policy"] == '"requests";q=2' and "r=0" in answer.headers["RateLimit"], f"{answer.headers}")
    check("api_rate_limited" in own.words(), "the refusal is not in the log")
    own.stop()


@test
def the_command_line_waits_for_its_turn_where_a_hub_says_when():
    own = Hub("--api-rate", "1")
    for _ in range(2000):
        if own.ask("GET", "/api/v1/machines").status == 429:
            break
    env = {**os.environ, "LEEWARD_URL": own.url, "LEEWARD_TOKEN": own.token, "LEEWARD_CA": own.ca}
    asked = [subprocess.run([os.path.join(BIN, "leeward"), "policy", "list", "-o", "json"], env=env, capture_output=True, text=True, timeout=180)
             for _ in range(4)]
    check(all(a.returncode == 0 and json.loads(a.stdout)["items"] for a in asked), f"a flood's next commands: {[a.stderr for a in asked]}")
    own.stop()


@test
def answers_are_compressed_for_those_who_take_it():
    for path, least in (("/api/v1/openapi.json", 4), ("/api/v1/audit?limit=500", 2)):
        plain = hub.ask("GET", path)
        packed = hub.ask("GET", path, headers={"Accept-Encoding": "gzip, br"})
        check(plain.headers["Content-Encoding"] is None and packed.headers["Content-Encoding"] == "gzip", f"{path}: {packed.headers}")
        check(packed.headers["Vary"] == "Accept-Encoding" and len(packed.body) * least < len(plain.body), f"{path}: {len(packed.body)} of {len(plain.body)} bytes")
        unpacked = json.loads(gzip.decompress(packed.body))
        check(unpacked.keys() == plain.json.keys(), f"{path} differs")
        check(hub.ask("GET", path, headers={"Accept-Encoding": "gzip;q=0"}).headers["Content-Encoding"] is None, f"{path} is packed for one who cannot read it")
    check(hub.ask("GET", "/api/v1/openapi.json", headers={"If-None-Match": hub.ask("GET", "/api/v1/openapi.json").headers["ETag"]}).status == 304, "the document is sent again")


@test
def the_audit_log_is_a_chain_that_shows_what_was_done_to_it():
    hub.ask("POST", "/api/v1/sites", {"name": "audited", "description": "=1+1"})
    verdict = hub.ask("GET", "/api/v1/audit/verify").json
    check(verdict["whole"] and verdict["entries"] > 5 and verdict["first_bad_seq"] is None, f"{verdict}")
    for form in ("ndjson", "csv"):
        path, entries = f"/api/v1/audit/export?format={form}&limit=7", []
        while path:
            answer = hub.ask("GET", path)
            check(answer.status == 200, f"{path}: {answer.status} {answer.text[:200]}")
            entries += [json.loads(line)["seq"] for line in answer.text.splitlines()] if form == "ndjson" else \
                [int(row[0]) for row in csv.reader(io.StringIO(answer.text)) if row[0] != "seq"]
            link = answer.headers["Link"]
            path = link[1:link.index(">")] + "&limit=7" if link else None
        check(entries == list(range(1, entries[-1] + 1)) and entries[-1] >= verdict["entries"], f"{form} has {len(entries)} entries")
    refused = hub.sql("DO $$ BEGIN UPDATE audit_log SET actor = 'nobody' WHERE seq = 3; EXCEPTION WHEN others THEN RAISE NOTICE 'refused'; END $$; SELECT actor FROM audit_log WHERE seq = 3")
    check(refused != "nobody", "the database lets an entry be changed")
    hub.sql("ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only; UPDATE audit_log SET actor = 'nobody' WHERE seq = 3; ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only")
    verdict = hub.ask("GET", "/api/v1/audit/verify").json
    check(not verdict["whole"] and verdict["first_bad_seq"] == 3, f"{verdict}")


if __name__ == "__main__":
    bring_up()
    main()
