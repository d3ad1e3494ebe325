#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The object storage against services that are not ours: Azurite (which verifies signatures) and s3rver, and against a service
that fails in ways the two do not."""
import base64
import email.utils
import hashlib
import http.server
import random
import subprocess
import threading
import time

from harness import check, defer, fresh, main, temp_dir, test
from object_peers import (ACCOUNT, ACCOUNT_KEY, TOOL, FaultProxy, Store, azure, bring_up, container_sas, endpoint_of, file_of, s3,
                          s3_error)
from object_peers import StrictS3 as Strict


# ---- the tool ----

def status(store, *arguments):
    return subprocess.run([TOOL, store.url, *arguments], env=store.env, capture_output=True, timeout=120).returncode


def behaves_as_a_store(store):
    """What every service must do; the same for all."""
    big = hashlib.sha256(b"big").digest() * 100000
    store("put", "m/1.seg", file_of(b"0123456789"))
    check(store("get", "m/1.seg") == "0123456789", "the object is another one")
    check(store("get", "m/1.seg", 3, 4) == "3456", "a range from the middle")
    check(store("get", "m/1.seg", 8, 100) == "89", "a range over the end")
    check(store("get", "m/1.seg", 10, 5) == "", "a range behind the end")
    check(store("size", "m/1.seg") == "10\n", "the size")
    check(status(store, "get", "m/none") == 3 and status(store, "size", "m/none") == 3, "absence is a result")
    store("put", "m/empty", file_of(b""))
    check(store("get", "m/empty") == "" and store("size", "m/empty") == "0\n", "an empty object")
    store("put", "m/big", file_of(big))
    check(store("size", "m/big") == f"{len(big)}\n", "the size of a big object")
    check(status(store, "put-new", "m/new", file_of(b"first")) == 0, "a new name is free")
    check(status(store, "put-new", "m/new", file_of(b"second")) == 3, "a name is taken once")
    check(store("get", "m/new") == "first", "a refused write changed something")
    for name in ("n/3", "n/1", "n/5", "n/2", "n/4"):
        store("put", name, file_of(name.encode()))
    check(store("list", "n/").split("\n")[:-1] == [f"3 n/{i}" for i in range(1, 6)], "the list of a prefix")
    pages = store("list", "n/", 2).split("page\n")[1:]
    check([p.split() for p in pages if p] == [["3", "n/1", "3", "n/2"], ["3", "n/3", "3", "n/4"], ["3", "n/5"]], f"pages: {pages}")
    store("delete", "n/3")
    store("delete", "n/3")
    check("n/3" not in store("list"), "a deleted object is in the list")


# ---- large objects ----

LARGE = random.Random(3).randbytes(20 << 20)  # over what is sent at once: three pieces


def content(store, name):
    """Bytes as they are: what the tool prints, not decoded."""
    return subprocess.run([TOOL, store.url, "get", name], env=store.env, stdout=subprocess.PIPE, check=True, timeout=120).stdout


def takes_large_objects(store):
    path = file_of(LARGE)
    check(status(store, "put-file", "large/1", path) == 0, "a large object was not taken")
    check(content(store, "large/1") == LARGE, "a large object is another one")
    check(status(store, "put-file", "large/1", file_of(LARGE[::-1])) == 3, "a name is taken once")
    check(content(store, "large/1") == LARGE, "a refused write changed something")
    check(store("list", "large/").split() == [str(len(LARGE)), "large/1"], "the list")


def goes_on(store, proxy, is_piece):
    """The second piece does not get through; the next call sends what is missing and nothing else."""
    path, pieces = file_of(LARGE), lambda: sum(is_piece(*request) for request in proxy.seen)
    proxy.fault = lambda number, method, path: 503 if pieces() == 2 else None
    said = store.fails("put-file", "large/broken", path)
    check(said.startswith("unavailable: ") and pieces() == 2, f"{pieces()} pieces: {said}")
    proxy.fault = lambda *_: None
    check(status(store, "put-file", "large/broken", path) == 0, "it did not go on")
    check(pieces() == 4, f"{pieces()} pieces were sent, of three and one that got lost")
    check(content(store, "large/broken") == LARGE, "what was put together is another object")


# ---- a service that fails ----

class Unwell(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next of `script`: (status, headers, body); None: silence. Then 200 "well"."""
    script = []
    seen = []

    def do_GET(self):
        self.seen.append(self.headers.get("Authorization"))
        answer = self.script.pop(0) if self.script else (200, {}, b"well")
        if answer is None:
            time.sleep(4)
            return
        code, headers, body = answer
        self.send_response_only(code)
        for name, value in {"Date": email.utils.formatdate(usegmt=True), "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def unwell(*script, **more):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unwell)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    defer(server.shutdown)
    Unwell.script, Unwell.seen = list(script), []
    return Store("s3://bucket", f"http://127.0.0.1:{server.server_port}", key_id="id", secret="secret", **more)


def strict(secret="right", through_proxy=False):
    """The service of the test that verifies signatures."""
    endpoint = Strict.begin()
    proxy = FaultProxy(endpoint) if through_proxy else None
    store = Store("s3://bucket", proxy.endpoint if proxy else endpoint, key_id="id", secret=secret, region="eu-west-1", tries=2)
    return (store, proxy) if proxy else store


# ---- tests ----

@test
def directory_behaves_as_a_store():
    store = Store("file://" + fresh("objects"))
    behaves_as_a_store(store)
    check("condition-honoured yes" in store("probe"), "a directory honours conditions")


@test
def azure_with_account_key_behaves_as_a_store():
    behaves_as_a_store(azure("/key"))
    check("condition-honoured yes" in azure("/key")("probe"), "Azurite honours conditions")


@test
def azure_with_shared_access_signature_behaves_as_a_store():
    behaves_as_a_store(azure("/sas", sas=container_sas("box", "rcwdl", 1)))


@test
def azure_wrong_key_missing_container_and_old_signature_are_told_apart():
    wrong = azure(secret=base64.b64encode(b"x" * 64).decode()).fails("list")
    check(wrong.startswith("unauthenticated: ") and "check the account or key id" in wrong, wrong)
    missing = Store(f"azure://{ACCOUNT}/nobox", endpoint_of("azurite"), secret=ACCOUNT_KEY)
    for command in (("list",), ("put", "a", file_of(b"a"))):
        said = missing.fails(*command)
        check(said.startswith("not_found: ") and "make it first" in said, said)
    old = azure(sas=container_sas("box", "rl", -1)).fails("list")
    check(old.startswith("unauthenticated: ") and "expired" in old, old)
    reader = azure(sas=container_sas("box", "rl", 1)).fails("put", "a", file_of(b"a"))
    check(reader.startswith("denied: ") and "right to" in reader, reader)


@test
def s3_behaves_as_a_store():
    behaves_as_a_store(s3("/prefix"))


@test
def s3_service_that_ignores_conditions_is_found_out():
    check("condition-honoured no" in s3("/probe")("probe"), "s3rver is known to ignore If-None-Match")


@test
def s3_missing_bucket_is_told():
    said = s3(bucket="nobucket").fails("list")
    check(said.startswith("not_found: ") and "make it first" in said, said)


@test
def s3_unknown_key_is_told():
    said = Store("s3://bucket", endpoint_of("s3rver"), key_id="nobody", secret="x").fails("list")
    check(said.startswith("unauthenticated: ") and "check the account or key id" in said, said)


@test
def s3_signature_is_right_for_what_is_sent():
    store = strict("right")
    check("condition-honoured yes" in store("probe"), "a service that honours conditions")
    store("put", "m/1.seg", file_of(b"0123456789"))
    check(store("get", "m/1.seg", 3, 4) == "3456" and store("size", "m/1.seg") == "10\n", "what was put")
    check(status(store, "put-new", "m/1.seg", file_of(b"other")) == 3, "a name is taken once")
    store("list", "m/", 1)
    check(Strict.markers == ["", "+a/b= &%41~"], f"markers: {Strict.markers}")
    said = strict("wrong").fails("get", "m/1.seg")
    check(said.startswith("unauthenticated: ") and "check the account or key id" in said, said)


@test
def large_objects_in_a_directory():
    takes_large_objects(Store("file://" + fresh("objects")))


@test
def large_objects_in_azure():
    takes_large_objects(azure("/large"))
    takes_large_objects(azure("/large-sas", sas=container_sas("box", "rcwdl", 1)))


@test
def large_objects_in_s3():
    takes_large_objects(s3("/large"))


@test
def azure_upload_that_broke_off_goes_on():
    proxy = FaultProxy(endpoint_of("azurite"))
    goes_on(azure("/resumed", endpoint=proxy.endpoint, tries=1), proxy, lambda method, path: "blockid=" in path and method == "PUT")


@test
def s3_upload_that_broke_off_goes_on():
    store, proxy = strict(through_proxy=True)
    store.env["LEEWARD_OBJECT_TRIES"] = "1"
    goes_on(store, proxy, lambda method, path: "partNumber=" in path and method == "PUT")
    check(not Strict.parts, "an upload was left behind")


@test
def s3_completion_that_fails_in_its_body_or_whose_answer_is_lost_ends_well():
    store, proxy = strict(through_proxy=True)
    Strict.completions = ["fails"]
    said = store.fails("put-file", "large/1", file_of(LARGE))
    check(said.startswith("unavailable: ") and "InternalError" in said, said)
    completions = lambda: sum(method == "POST" and "uploadId" in path for method, path in proxy.seen)
    before = completions()
    proxy.fault = lambda _, method, path: "lost" if method == "POST" and "uploadId" in path and completions() == before + 1 else None
    check(status(store, "put-file", "large/1", file_of(LARGE)) == 0, "a lost answer was taken for a failure")
    check(content(store, "large/1") == LARGE, "what was put together is another object")


@test
def busy_service_is_asked_again():
    store = unwell((503, {}, b"<html>busy</html>"), (429, {}, b""), (500, {}, s3_error("InternalError")))
    check(store("get", "a") == "well", "not asked again")
    check(len(Unwell.seen) == 4, f"{len(Unwell.seen)} requests")


@test
def service_that_stays_busy_is_given_up():
    said = unwell(*[(503, {}, b"x")] * 9, tries=3).fails("get", "a")
    check(said.startswith("unavailable: ") and len(Unwell.seen) == 3, said)


@test
def silent_service_is_asked_again():
    check(unwell(None, stall=1)("get", "a") == "well", "not asked again after silence")


@test
def wrong_clock_is_named():
    hour_ahead = email.utils.formatdate(time.time() + 3600, usegmt=True)
    said = unwell((403, {"Date": hour_ahead}, s3_error("RequestTimeTooSkewed"))).fails("get", "a")
    check("clock is" in said and "behind" in said and len(Unwell.seen) == 1, said)


@test
def endless_list_and_strange_documents_are_refused():
    entry = b"<Contents><Key>a</Key><Size>1</Size></Contents>"
    for body in (b"x" * (9 << 20), b"<ListBucketResult>" + entry * 3 + b"</ListBucketResult>", b"<html/>",
                 b"<!DOCTYPE l [<!ENTITY e 'a'>]><ListBucketResult>&e;</ListBucketResult>"):
        said = unwell((200, {}, body)).fails("list", "a", "2")
        check(said.startswith(("corrupt: ", "too_large: ")), said)


@test
def more_than_the_range_that_was_asked_for_is_refused():
    said = unwell((206, {}, b"0123456789")).fails("get", "a", "3", "2")
    check(said.startswith("corrupt: "), said)


@test
def answer_that_breaks_off_is_asked_for_again():
    check(unwell((200, {"Content-Length": 50}, b"wel"))("get", "a") == "well", "half an answer was taken, or not asked again")


@test
def service_without_ranges_is_noticed():
    said = unwell((200, {}, b"all of it")).fails("get", "a", "3", "2")
    check(said.startswith("unsupported: "), said)


if __name__ == "__main__":
    temp_dir()
    bring_up()
    main()
