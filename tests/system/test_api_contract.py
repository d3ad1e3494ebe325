#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The API against its own description: every operation of the OpenAPI document, every status that a client can bring about, every role,
and requests that schemathesis makes up. Each answer is held to the schema that the document gives for its status."""
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import uuid

from harness import ROOT, check, fresh, main, note, test, wait_until
from hub_alone import Hub, document, operations, python_peers

MACHINE, NODE, VAULT, EXPORT, BRANCH, JOB, ALERT = (f"{i}1111111-1111-4111-8111-111111111111" for i in range(1, 8))
WORLD = f"""
INSERT INTO machines (id, name, hostname, state, online, last_seen_at) VALUES
  ('{MACHINE}', 'source', 'source', 'protected', true, now()), ('{NODE}', 'bare', 'bare', 'unprotected', true, now());
INSERT INTO nodes (id, name, endpoint, online, last_seen_at) VALUES ('{NODE}', 'gate', 'gate:9443', true, now());
INSERT INTO vaults (id, name, endpoint, online, last_seen_at, free_bytes, capacity_bytes) VALUES
  ('{VAULT}', 'store', 'store:9444', true, now(), 100000000000, 200000000000);
INSERT INTO disks (machine_id, key, number, device, size_bytes, trackable, is_protected) SELECT id, name || '-vda', 0, '/dev/vda', 10737418240, true, true FROM machines;
INSERT INTO disks (machine_id, key, number, device, size_bytes, trackable, is_protected) VALUES
  ('{MACHINE}', 'second', 1, '/dev/vdb', 10737418240, true, true), ('{MACHINE}', 'third', NULL, '/dev/vdc', 10737418240, true, false);
INSERT INTO protections (machine_id, policy_id, node_id, vault_id) SELECT '{MACHINE}', id, '{NODE}', '{VAULT}' FROM policies WHERE is_default;
INSERT INTO recovery_points (machine_id, sequence, vault_id, time, kind, generation, committed_at) VALUES
  ('{MACHINE}', 1, '{VAULT}', now() - interval '1 minute', 'crash', 1, now()), ('{MACHINE}', 2, '{VAULT}', now(), 'application', 1, now());
UPDATE recovery_points SET unreadable_blocks = 3, unreadable_ranges = '[{{"disk": 0, "start_bytes": 8388608, "length_bytes": 8192}}]' WHERE sequence = 1;
UPDATE machines SET last_point_sequence = 2, last_point_at = now() WHERE id = '{MACHINE}';
INSERT INTO vaults (id, name, endpoint) VALUES ('{NODE}', 'first', 'first:9444');
INSERT INTO copies (machine_id, vault_id, source_vault_id, created_by) VALUES ('{MACHINE}', '{VAULT}', '{NODE}', 'test');
INSERT INTO copy_points (machine_id, vault_id, sequence, time, kind, generation, committed_at) VALUES
  ('{MACHINE}', '{VAULT}', 1, now() - interval '1 minute', 'crash', 1, now()), ('{MACHINE}', '{VAULT}', 2, now(), 'application', 1, now());
INSERT INTO exports (id, machine_id, vault_id, sequence, writable, state) VALUES
  ('{EXPORT}', '{MACHINE}', '{VAULT}', 2, false, 'open'), ('{BRANCH}', '{MACHINE}', '{VAULT}', 2, true, 'open');
INSERT INTO jobs (id, kind, status, vault_id, run_after) VALUES ('{JOB}', 'verify', 'queued', '{VAULT}', now() + interval '1 day');
INSERT INTO events (severity, code, text) VALUES ('info', 'test', 'an event');
"""
JSON_TYPES = ("application/json", "application/problem+json")
PASSWORD = "a password of the test"

doc = document()
hub = None
reached = collections.defaultdict(set)  # operation -> statuses
validators = {}


def bring_up():
    global hub
    python_peers()  # before the hub: its clock is not to run while packages come
    hub = Hub("--job-threads", "1", "--api-rate", "100000", "--api-failure-rate", "100000")
    hub.sql(WORLD)
    hub.make_user("contract", "admin", PASSWORD)


# ---- what the document says ----

def resolve(node):
    while "$ref" in node:
        where = doc
        for part in node["$ref"].removeprefix("#/").split("/"):
            where = where[part]
        node = where
    return node


def parameters(operation, place):
    return [p for p in map(resolve, operation.get("parameters", [])) if p["in"] == place]


def scope_of(operation):
    """None: open; "session": a person's session; else the scope."""
    security = operation.get("security")
    if not security:
        return None
    scopes = next(iter(security[0].values()))
    return scopes[0] if scopes else "session"


def body_schema(operation):
    body = operation.get("requestBody")
    return next(iter(resolve(body)["content"].values()))["schema"] if body else None


def hold(name, operation, answer):
    """Fails unless the document has this status, media type and form."""
    import jsonschema_rs  # of schemathesis' own environment
    status = str(answer.status)
    check(status in operation["responses"], f"{name} answers {status}, which the document does not have: {answer.text[:300]}")
    content = resolve(operation["responses"][status]).get("content")
    if not content:
        check(not answer.body, f"{name} {status} has a body: {answer.text[:300]}")
    else:
        kind = answer.headers["Content-Type"].partition(";")[0]
        check(kind in content, f"{name} {status} is {kind}, not {list(content)}")
        if kind in JSON_TYPES:
            key = (name, status)
            if key not in validators:
                schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": doc["components"], **content[kind]["schema"]}
                validators[key] = jsonschema_rs.validator_for(schema, validate_formats=True)
            for problem in validators[key].iter_errors(answer.json):
                check(False, f"{name} {status} at {problem.instance_path}: {problem.message}")
    check(answer.headers["X-Request-Id"], f"{name} {status} has no X-Request-Id")
    check(answer.headers["Cache-Control"], f"{name} {status} has no Cache-Control")
    reached[name].add(answer.status)
    return answer


# ---- asking ----

IDS = {"machine_id": MACHINE, "node_id": NODE, "vault_id": VAULT, "policy_id": "default", "export_id": EXPORT, "branch_id": BRANCH, "job_id": JOB, "sequence": "2"}


def fill(path, ids=None, absent=False):
    """The path with ids of the world, or with some that nothing has."""
    def value(match):
        if absent:
            return "99" if match[1] == "sequence" else str(uuid.uuid4())
        return str((ids or {}).get(match[1], IDS.get(match[1], str(uuid.uuid4()))))
    return re.sub(r"{(\w+)}", value, path)


def sample(schema, depth=0):
    """The smallest value that the schema allows, as far as this document goes."""
    schema = resolve(schema)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if "oneOf" in schema:
        return sample(schema["oneOf"][0], depth + 1)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        names = schema.get("required", []) or list(schema.get("properties", {}))[:schema.get("minProperties", 0)]
        return {name: sample(schema["properties"][name], depth + 1) for name in names}
    if kind == "array":
        return [sample(schema["items"], depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if schema.get("format") == "uuid":
        return str(uuid.uuid4())
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    text = "/tmp/x" if schema.get("pattern") == "^/" else "contract"
    return text.ljust(schema.get("minLength", 0), "x")


def ask(name, method, path, operation, **more):
    more.setdefault("headers", {})
    return hold(name, operation, hub.ask(method, path, **more))


def is_stream(name):
    return name == "streamEvents"


def secured():
    return [(n, m, p, o) for n, m, p, o in operations(doc) if scope_of(o) is not None]


def needs(operation):
    """Headers without which a change is not even looked at."""
    return {"If-Match": "*"} if any(p["name"] == "If-Match" for p in parameters(operation, "header")) else {}


# ---- all of them ----

# What needs no credentials, and what asks with POST and changes nothing. Whatever else is added must be in the tables below.
OPEN = {"getLiveness", "getReadiness", "getOpenapi", "getVersion", "createSession", "listSignInMethods", "beginOidc", "completeOidc"}
SHOWS_INSIDES = {"getFailoverScreenshot"}  # of what is protected: a GET that more than reading is asked for
ONLY_ASKS = {"forecastPlanRun"}
# Changes that cannot be tried out: what one person may do is tried with the decision itself, a sign-in is no change of what is kept.
NO_DRY_RUN = {"createSession", "endSession", "changePassword", "approveApproval", "rejectApproval"} | ONLY_ASKS
# POSTs that need no Idempotency-Key: repeated they find what they did. And those that show a secret once: no answer of theirs is kept.
REPEATABLE = {"addGroupMember", "cancelJob", "answerJob", "acknowledgeAlert", "approveApproval", "rejectApproval"} | ONLY_ASKS
SHOWS_A_SECRET = {"createSession", "changePassword", "createUser", "createToken", "createEnrolmentToken"}
ABOUT_DISKS = {"listDisks": "machines:read", "addDisks": "machines:protect", "excludeDisks": "machines:protect",
               "resizeDisks": "machines:protect", "protectMachine": "machines:protect", "exportDisk": "exports:write"}


@test
def no_operation_is_left_out_of_the_tables():
    """Every method of the document is an operation, every operation a route of the program, and every one that is not open has a scope that fits."""
    methods = [(path, key) for path, item in doc["paths"].items() for key in item if key != "parameters"]
    named = {name: (method, scope_of(operation)) for name, method, _, operation in operations(doc)}
    check(len(named) == len(methods) > 100, f"{len(methods)} methods and {len(named)} operations: two share a name, or one is no operation")
    with open(os.path.join(ROOT, "hub", "api", "http_table.c")) as f:
        routes = re.findall(r'^ {4}\{"[A-Z]+", (?:V1 )?"[^"]*", "(\w+)"', f.read(), re.M)
    check(sorted(routes) == sorted(named), f"routes and operations differ: {set(routes) ^ set(named)}")
    check({n for n, (_, scope) in named.items() if scope is None} == OPEN, f"open to everybody: {[n for n, (_, s) in named.items() if s is None]}")
    check({n for n, _, _, _ in secured()} == set(named) - OPEN, "the tables of roles leave one out")
    for name, (method, scope) in named.items():
        if scope and scope != "session":
            reads = scope.endswith(":read")
            check(reads if method == "GET" and name not in SHOWS_INSIDES else reads == (name in ONLY_ASKS), f"{method} {name} needs {scope}")
    for name, scope in ABOUT_DISKS.items():
        check(named[name][1] == scope, f"{name} needs {named[name][1]}")


@test
def every_change_can_be_tried_out_and_every_post_repeated():
    changes = {n: o for n, m, _, o in operations(doc) if m != "GET"}
    check({n for n, o in changes.items() if not any(p["name"] == "dry_run" for p in parameters(o, "query"))} == NO_DRY_RUN,
          f"without dry_run: {sorted(n for n, o in changes.items() if not any(p['name'] == 'dry_run' for p in parameters(o, 'query')))}")
    keyless = {n for n, m, _, o in operations(doc) if m == "POST" and not any(p["name"] == "Idempotency-Key" for p in parameters(o, "header"))}
    check(keyless == REPEATABLE | SHOWS_A_SECRET, f"POST without Idempotency-Key: {sorted(keyless)}")


# ---- statuses that are alike for all ----

@test
def nobody_is_401_everywhere():
    for name, method, path, operation in secured():
        for token in (None, "lwt_" + "A" * 49, "x"):
            answer = ask(name, method, fill(path), operation, token=token)
            check(answer.status == 401, f"{name} without a right token: {answer.status}")
            check(answer.headers["WWW-Authenticate"], f"{name} does not say how to authenticate")


@test
def a_token_without_the_scope_is_403_everywhere():
    narrow = {scope: hub.make_token("viewer", scopes=[scope]) for scope in ("metrics:read", "jobs:read")}
    for name, method, path, operation in secured():
        if scope_of(operation) != "session":
            token = narrow["jobs:read" if scope_of(operation) == "metrics:read" else "metrics:read"]
            answer = ask(name, method, fill(path), operation, token=token)
            check(answer.status == 403 and answer.json["code"] == "denied", f"{name} with another scope: {answer.status} {answer.text[:200]}")


@test
def every_role_may_what_its_scopes_say_and_nothing_else():
    """An unknown parameter is refused after the rights were looked at: 400 means allowed, 403 not, and nothing is ever done."""
    covers = lambda have, want: have == "*" or all(h in ("*", w) for h, w in zip(have.split(":"), want.split(":")))
    kept_from_operators = ("users:write", "tokens:write", "policies:write", "sites:write", "settings:write", "nodes:write", "vaults:write", "enrolment_tokens:write")
    for role in ("viewer", "operator", "admin"):
        hub.make_user(f"role-{role}", role, PASSWORD)
        session = hub.sign_in(f"role-{role}", PASSWORD)
        own = hub.ask("GET", "/api/v1/session", token=None, headers=session).json["scopes"]
        token = hub.make_token(role)
        of_token = next(t["scopes"] for t in hub.ask("GET", "/api/v1/tokens?limit=500").json["items"] if t["name"] == role)
        table = collections.Counter()
        for name, method, path, operation in secured():
            scope = scope_of(operation)
            for who, credentials, scopes in (("token", {"token": token}, of_token), ("session", {"token": None, "headers": session}, own)):
                answer = ask(name, method, fill(path, absent=True) + "?nonsense=1", operation, **credentials)
                if scope == "session":
                    want = 401 if who == "token" else 400
                else:
                    kept = any(covers(s[1:], scope) for s in scopes if s.startswith("!"))
                    want = 400 if any(covers(s, scope) for s in scopes) and not kept else 403
                    check(not (want == 400 and role == "viewer" and scope in ("audit:read", "users:read")), f"a viewer may {name}")
                    check(not (want == 400 and role == "viewer" and not scope.endswith(":read") and not (who == "session" and scope in ("tokens:write", "sessions:write"))),
                          f"a viewer may {name}")
                    check(not (want == 400 and role == "operator" and scope in kept_from_operators and not (who == "session" and scope == "tokens:write")),
                          f"an operator may {name}")
                    check(not (want == 403 and role == "admin"), f"an administrator may not {name}")
                check(answer.status == want, f"{name} as {role} by {who}: {answer.status} instead of {want}: {answer.text[:200]}")
                if want == 403:
                    check(answer.json["code"] == "denied" and answer.json["correction"], f"{name}: {answer.text}")
                table[want] += 1
        check(sum(table.values()) == 2 * len(secured()), f"{role}: only {sum(table.values())} of {2 * len(secured())} were asked")
        note(f"{role}: {dict(table)}")
        denied = hub.ask("GET", f"/api/v1/audit?actor=token:{role}&outcome=denied&limit=500").json["items"]
        check(role == "admin" or len(denied) > 20, f"only {len(denied)} refusals of {role} are in the audit log")


@test
def a_session_changes_nothing_without_its_csrf_token():
    session = hub.sign_in("contract", PASSWORD)
    other = hub.sign_in("contract", PASSWORD)["X-CSRF-Token"]
    for name, method, path, operation in secured():
        if method == "GET":
            continue
        for csrf in (None, "", "x" * 43, other):
            headers = {"Cookie": session["Cookie"], **({"X-CSRF-Token": csrf} if csrf is not None else {})}
            answer = ask(name, method, fill(path, absent=True), operation, token=None, headers=headers)
            check(answer.status == 403 and answer.json["code"] == "csrf", f"{name} with CSRF token {csrf!r}: {answer.status} {answer.text[:200]}")


@test
def wrong_requests_get_the_status_that_says_why():
    large = b'{"name": "' + b"x" * (1 << 20) + b'"}'
    for name, method, path, operation in operations(doc):
        if scope_of(operation) in (None, "session"):
            if scope_of(operation) is None and name != "completeOidc":
                check(ask(name, method, path + "?nonsense=1", operation, token=None, body=sample(body_schema(operation)) if body_schema(operation) else None).status == 400,
                      f"{name} takes any parameter")
            continue
        responses, schema, must = operation["responses"], body_schema(operation), needs(operation)
        body = sample(schema) if schema else None
        answer = ask(name, method, fill(path) + "?nonsense=1", operation, headers=must)
        check(answer.status == 400 and answer.json["errors"][0]["pointer"] == "nonsense", f"{name}: {answer.text}")
        if schema:
            check(ask(name, method, fill(path), operation, body=b"{", headers=must).status == 400, f"{name} takes what is no JSON")
            check(ask(name, method, fill(path), operation, body={**body, "nonsense": 1}, headers=must).status == 400, f"{name} takes an unknown field")
            check(ask(name, method, fill(path), operation, body=large, headers=must).status == 413, f"{name} takes 1 MiB")
            check(ask(name, method, fill(path), operation, body=b"a=b", headers={"Content-Type": "text/plain", **must}).status == 415,
                  f"{name} takes plain text")
        if "404" in responses and "{" in path:
            answer = ask(name, method, fill(path, absent=True), operation, body=body, headers=must)
            check(answer.status == 404 and answer.json["code"] == "not_found", f"{name} of nothing: {answer.status} {answer.text[:200]}")
        if must:
            check(ask(name, method, fill(path), operation, body=body).status == 428, f"{name} without If-Match")
        if must and all(field in IDS for field in re.findall(r"{(\w+)}", path)) and "{group_id}" not in path:
            for stale in ('"999999"', "W/\"1\"", "nonsense"):
                answer = ask(name, method, fill(path), operation, body=body, headers={"If-Match": stale})
                check(answer.status in (412, 400, 409), f"{name} with a stale etag: {answer.status} {answer.text[:200]}")


# ---- successes ----

def succeed(name, method, path, operation, status, **more):
    answer = ask(name, method, path, operation, **more)
    check(answer.status == status, f"{name}: {answer.status} instead of {status}: {answer.text[:300]}")
    return answer


@test
def what_is_read_answers_200():
    for name, method, path, operation in operations(doc):
        if method != "GET" or is_stream(name) or "200" not in operation["responses"] or ("{" in path and not all(f in IDS for f in re.findall(r"{(\w+)}", path))):
            continue
        headers = hub.sign_in("contract", PASSWORD) if scope_of(operation) == "session" else {}
        must = [f"{p['name']}=x" for p in parameters(operation, "query") if p.get("required")]
        if must:
            continue
        succeed(name, method, fill(path), operation, 200, headers=headers, token=None if headers else "")


@test
def every_list_pages_sorts_and_filters():
    """Every filter that the document names is taken; a page of one leads to the next."""
    for name, method, path, operation in operations(doc):
        query = {p["name"]: p for p in parameters(operation, "query")}
        if method != "GET" or "cursor" not in query or ("{" in path and not all(f in IDS for f in re.findall(r"{(\w+)}", path))):
            continue
        answer = succeed(name, method, fill(path) + "?limit=1", operation, 200)
        for _ in range(3):
            if "next" not in answer.json:
                break
            answer = succeed(name, method, fill(path) + f"?limit=1&cursor={answer.json['next']}", operation, 200)
        check(ask(name, method, fill(path) + "?cursor=nonsense", operation).status == 400, f"{name} takes any cursor")
        check(ask(name, method, fill(path) + "?sort=nonsense", operation).status == 400, f"{name} sorts by anything")
        check(ask(name, method, fill(path) + "?limit=501", operation).status == 400, f"{name} gives 501 items at once")
        for filtered, parameter in query.items():
            if filtered not in ("limit", "cursor", "sort"):
                value = sample(parameter["schema"])
                value = str(value).lower() if isinstance(value, bool) else value
                answer = ask(name, method, fill(path) + f"?{filtered}={value}", operation)
                check(answer.status == 200, f"{name} by {filtered}={value}: {answer.status} {answer.text[:200]}")


def question_for_everything():
    """Which rows there are, and the version of each: what a change that a person makes would alter. One statement."""
    parts = []
    for line in hub.sql("SELECT c.table_name, bool_or(c.column_name = 'id'), bool_or(c.column_name = 'version') FROM information_schema.columns c"
                        " JOIN information_schema.tables t USING (table_schema, table_name) WHERE t.table_type = 'BASE TABLE' AND c.table_schema = 'public'"
                        " AND c.table_name NOT IN ('audit_log', 'sessions', 'login_failures', 'events', 'alerts', 'alert_changes', 'certificates')"
                        " GROUP BY 1 ORDER BY 1").splitlines():
        table, has_id, has_version = line.split("|")
        version = "version" if has_version == "t" and table != "jobs" else "0"
        if has_id == "t":
            parts.append(f"SELECT '{table}', string_agg(id || ':' || {version}, ',' ORDER BY id::text) FROM {table}")
    parts += [f"SELECT '{table}', count(*)::text FROM {table}" for table in ("protections", "consistency_group_members", "idempotency_keys")]
    return " UNION ALL ".join(parts)


@test
def a_dry_run_changes_nothing_whatever_the_operation():
    """The same request without dry_run may be refused or not: with it nothing in the database is another than before."""
    question = question_for_everything()
    everything = lambda: dict(line.split("|", 1) for line in hub.sql(question).splitlines())
    taken, asked, before = [], 0, everything()
    check(len(before) > 15, f"only {len(before)} tables are looked at")
    for name, method, path, operation in secured():
        if not any(p["name"] == "dry_run" for p in parameters(operation, "query")):
            continue
        schema = body_schema(operation)
        body = sample(schema) if schema else None
        if method == "PATCH" and schema and "description" in resolve(schema).get("properties", {}):
            body = {"description": "of a dry run"}
        for headers in (needs(operation), {**needs(operation), "Idempotency-Key": f"dry-{name}"}):
            if "Idempotency-Key" in headers and not any(p["name"] == "Idempotency-Key" for p in parameters(operation, "header")):
                continue
            answer = ask(name, method, fill(path) + "?dry_run=true", operation, body=body, headers=headers)
            taken += [name] * (answer.status < 300)
            asked += 1
            after = everything()
            check(after == before, f"a dry run of {name} ({answer.status}) changed {[t for t in after if after[t] != before.get(t)]}")
    note(f"{asked} dry runs, taken: {sorted(set(taken))}")
    check(len(set(taken)) >= 6, f"hardly any dry run was taken: {sorted(set(taken))}")


def by_name(name):
    return next((m, p, o) for n, m, p, o in operations(doc) if n == name)


def life(kind, create_body, changes):
    """Creates, repeats, reads, changes on the right and on a stale version, deletes. Kind as in createSite."""
    method, path, operation = by_name(f"create{kind}")
    has_key = any(p["name"] == "Idempotency-Key" for p in parameters(operation, "header"))
    key = {"Idempotency-Key": f"key-{kind}"} if has_key else {}
    made = succeed(f"create{kind}", method, path, operation, 201, body=create_body, headers=key)
    check(made.headers["Location"], f"create{kind} does not say where")
    if has_key:
        again = succeed(f"create{kind}", method, path, operation, 201, body=create_body, headers=key)
        check(again.json == made.json, f"create{kind} with the same key does it twice")
        other = succeed(f"create{kind}", method, path, operation, 422, body={**create_body, "description": "another"}, headers=key)
        check(other.json["code"] == "idempotency_key_reused", f"{other.text}")
    succeed(f"create{kind}", method, path, operation, 409, body=create_body)
    at = made.headers["Location"]
    for verb, body, status in (("get", None, 200), ("update", changes, 200), ("delete", None, 204)):
        method, path, operation = by_name(f"{verb}{kind}")
        current = hub.ask("GET", at).json["etag"]
        if verb != "get":
            succeed(f"{verb}{kind}", method, at, operation, 412, body=body, headers={"If-Match": '"99999"'})
            succeed(f"{verb}{kind}", method, at, operation, 428, body=body)
        answer = succeed(f"{verb}{kind}", method, at, operation, status, body=body, headers={"If-Match": f'"{current}"'})
        check(verb == "delete" or answer.headers["ETag"] == f'"{answer.json["etag"]}"', f"{verb}{kind}: {answer.headers['ETag']}")
    method, path, operation = by_name(f"get{kind}")
    succeed(f"get{kind}", method, at, operation, 404)


@test
def what_people_configure_lives_its_life():
    life("Site", {"name": "lund"}, {"description": "by the sea"})
    life("Policy", {"name": "gold"}, {"description": "the best"})
    life("Group", {"name": "shop"}, {"description": "all of it"})
    life("User", {"name": "temporary", "role": "viewer"}, {"display_name": "For a day"})


@test
def jobs_are_202_with_their_place_and_a_dry_run_is_204():
    for name, ids, body in (("verifyVault", {}, {}), ("compactVault", {}, {}), ("createPoint", {}, {"kind": "crash", "tag": "contract"}), ("openPoint", {}, {"machine": "source"}),
                            ("createBranch", {}, {"machine": "source", "name": "b"}), ("exportDisk", {}, {"disk": 0, "path": "/nowhere/x"}),
                            ("protectMachine", {"machine_id": NODE}, {"disks": "all-eligible"}), ("resyncMachine", {}, {}),
                            ("addDisks", {}, {"disks": ["third"]}), ("resizeDisks", {}, {"disks": ["second"]}), ("excludeDisks", {}, {"disks": ["second"]}),
                            ("unprotectMachine", {}, {})):
        method, path, operation = by_name(name)
        at = fill(path, ids)
        succeed(name, method, at + "?dry_run=true", operation, 204, body=body)
        key = {"Idempotency-Key": f"job-{name}"}
        made = succeed(name, method, at, operation, 202, body=body, headers=key)
        check(made.headers["Location"] == f"/api/v1/jobs/{made.json['id']}", f"{name}: {made.headers['Location']}")
        check(succeed(name, method, at, operation, 202, body=body, headers=key).json["id"] == made.json["id"], f"{name} with the same key is two jobs")
        succeed(name, method, at + "?wait=0", operation, 422, body=body, headers=key)
        method, path, operation = by_name("cancelJob")
        answer = ask("cancelJob", method, made.headers["Location"] + "/cancel", operation)
        check(answer.status in (202, 409), f"cancelJob of {name}: {answer.status} {answer.text}")
        hub.sql(f"UPDATE jobs SET status = 'cancelled', finished_at = now() WHERE finished_at IS NULL AND id <> '{JOB}'")
    method, path, operation = by_name("answerJob")
    succeed("answerJob", method, fill(path), operation, 409, body={"answer": "continue"})
    method, path, operation = by_name("cancelJob")
    succeed("cancelJob", method, fill(path) + "?dry_run=true&wait=30", operation, 204)
    check(hub.ask("GET", f"/api/v1/jobs/{JOB}").json["status"] == "queued" and hub.sql(f"SELECT cancel_requested FROM jobs WHERE id = '{JOB}'") == "f",
          "a dry run cancelled the job")


@test
def tokens_are_made_shown_once_and_revoked():
    for create, revoke, body in (("createToken", "revokeToken", {"name": "t", "role": "viewer"}), ("createEnrolmentToken", "revokeEnrolmentToken", {"role": "agent"})):
        method, path, operation = by_name(create)
        made = succeed(create, method, path, operation, 201, body=body)
        check(made.json["token"] not in hub.ask("GET", path).text and made.json["token"] not in hub.words(), "a secret is shown again")
        method, path, operation = by_name(revoke)
        succeed(revoke, method, made.headers["Location"], operation, 204)
    method, path, operation = by_name("createToken")
    narrow = hub.make_token("viewer", scopes=["machines:read"])
    succeed("listMachines", "GET", "/api/v1/machines", by_name("listMachines")[2], 200, token=narrow)
    succeed("listVaults", "GET", "/api/v1/vaults", by_name("listVaults")[2], 403, token=narrow)


@test
def people_sign_in_and_out():
    method, path, operation = by_name("createSession")
    succeed("createSession", method, path, operation, 201, body={"username": "contract", "password": PASSWORD}, token=None)
    succeed("createSession", method, path, operation, 401, body={"username": "contract", "password": "wrong"}, token=None)
    succeed("createSession", method, path, operation, 400, body={"username": "contract"}, token=None)
    session = hub.sign_in("contract", PASSWORD)
    method, path, operation = by_name("changePassword")
    succeed("changePassword", method, path, operation, 400, body={"current_password": PASSWORD, "new_password": "short"}, token=None, headers=session)
    succeed("changePassword", method, path, operation, 204, body={"current_password": PASSWORD, "new_password": PASSWORD + "!"}, token=None, headers=session)
    succeed("changePassword", method, path, operation, 204, body={"current_password": PASSWORD + "!", "new_password": PASSWORD}, token=None, headers=session)
    own = hub.ask("GET", "/api/v1/session", token=None, headers=session).json["id"]
    second = hub.sign_in("contract", PASSWORD)
    method, path, operation = by_name("revokeSession")
    succeed("revokeSession", method, f"/api/v1/sessions/{own}", operation, 204, token=None, headers=second)
    method, path, operation = by_name("endSession")
    succeed("endSession", method, path, operation, 204, token=None, headers=second)
    succeed("endSession", method, path, operation, 401, token=None, headers=second)


@test
def a_database_that_takes_nobody_is_503_and_then_all_is_well_again():
    hub.sql("ALTER DATABASE leeward ALLOW_CONNECTIONS false", database="postgres")
    try:
        hub.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'leeward'", database="postgres")
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for name, answer in pool.map(lambda n: (n, ask(n, by_name(n)[0], fill(by_name(n)[1]), by_name(n)[2])), ("listMachines", "getVault", "getStatus")):
                check(answer.status == 503 and answer.headers["Retry-After"] and answer.json["correction"], f"{name} without a database: {answer.status} {answer.text}")
        check(hub.ask("GET", "/healthz", token=None).status == 200, "the hub is not alive without its database")
    finally:
        hub.sql("ALTER DATABASE leeward ALLOW_CONNECTIONS true", database="postgres")
    wait_until(lambda: hub.ask("GET", "/api/v1/machines").status == 200, "the hub to find its database again", 60)


@test
def made_up_requests_find_no_fault():
    """schemathesis: no 5xx and nothing that the document does not have. Fixed seed, bounded time."""
    log = fresh("schemathesis.log")
    command = [os.path.join(python_peers(), "bin", "schemathesis"), "--no-color", "run", os.path.join(os.path.dirname(log), "openapi.json"), "--url", hub.url,
               "--tls-verify", hub.ca, "--header", f"Authorization: Bearer {hub.token}", "--seed", "20260101", "--generation-deterministic",
               "--generation-with-security-parameters", "false", "--no-shrink", "--max-examples", os.environ.get("LEEWARD_FUZZ_EXAMPLES", "4"), "--max-time", "120",
               "--phases", "coverage,fuzzing", "--continue-on-failure", "--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off",
               "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
               "--exclude-operation-id", "streamEvents"]
    with open(command[3], "w") as f:
        json.dump(doc, f)
    with open(log, "w") as out:
        result = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=900, cwd=os.path.dirname(log))
    with open(log) as f:
        said = f.read()
    cases = re.search(r"(\d+) generated", said)
    note(f"schemathesis: {cases and cases[0]}")
    check(result.returncode == 0, said[-3000:])
    check(cases and int(cases[1]) > 50, f"only {cases and cases[1]} requests were made up: {said[-600:]}")
    check("api_undocumented_status" not in hub.words() and "api_failed" not in hub.words(), "the hub's log has an undocumented answer or a fault")


@test
def the_table_of_what_was_reached():
    """Every status of the document but those that need a fault of the hub, its database or a flood."""
    missing = {}
    for name, _, _, operation in operations(doc):
        wanted = {int(s) for s in operation["responses"]} - {429, 500, 503}
        note(f"{name}: {' '.join(str(s) for s in sorted(reached[name]))}" + (f"   not: {sorted(wanted - reached[name])}" if wanted - reached[name] else ""))
        if wanted - reached[name]:
            missing[name] = sorted(wanted - reached[name])
    total = sum(len(o["responses"]) - len({"429", "500", "503"} & set(o["responses"])) for _, _, _, o in operations(doc))
    share = 1 - sum(map(len, missing.values())) / total
    note(f"{share:.0%} of {total} statuses of {sum(1 for _ in operations(doc))} operations")
    check(share >= 0.65, f"only {share:.0%} of the document's statuses were reached: {missing}")


if __name__ == "__main__":
    bring_up()
    main()
