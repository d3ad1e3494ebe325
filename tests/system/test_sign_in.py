#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Signing in: the administrator of the first start, an OpenID provider with real keys (RS256 and ES256) and what a provider or an
attacker may send instead, and the certificate that the API shows."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import time
import urllib.parse

from harness import BIN, check, defer, fresh, main, run, start, test, wait_until
from hub_alone import Hub

CLIENT, SECRET = "leeward hub", "s3cret&more="
AT_HOME = "https://hub.example.org"
CALLBACK = AT_HOME + "/api/v1/session/oidc/callback"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def certificate(folder, name, *more):
    os.makedirs(folder, exist_ok=True)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", *more)
    return f"{folder}/cert.pem", f"{folder}/key.pem"


class Key:
    """A key pair of openssl(1) that signs as RS256 or ES256 and shows itself as a JWK."""

    def __init__(self, kind, kid):
        self.kind, self.kid, self.path = kind, kid, fresh(f"{kid}.pem")
        options = {"RSA": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "EC": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}
        run("openssl", "genpkey", *options[kind], "-out", self.path)

    def public_der(self):
        return subprocess.run(["openssl", "pkey", "-in", self.path, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout

    def jwk(self):
        der = self.public_der()
        if self.kind == "EC":
            return {"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "x": b64(der[-64:-32]), "y": b64(der[-32:])}
        text = run("openssl", "pkey", "-in", self.path, "-text", "-noout")
        modulus = bytes.fromhex(re.sub(r"[\s:]", "", re.search(r"modulus:(.*?)publicExponent", text, re.S)[1]))
        return {"kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256", "n": b64(modulus.lstrip(b"\0")), "e": "AQAB"}

    def sign(self, data):
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.path], input=data, check=True, capture_output=True).stdout
        if self.kind == "RSA":
            return der
        at, parts = 2 if der[1] < 128 else 3, []
        for _ in range(2):
            n = der[at + 1]
            parts.append(der[at + 2:at + 2 + n].lstrip(b"\0").rjust(32, b"\0"))
            at += 2 + n
        return b"".join(parts)

    def token(self, claims, **header):
        head = {"alg": "RS256" if self.kind == "RSA" else "ES256", "kid": self.kid, "typ": "JWT", **header}
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
        return text + "." + b64(self.sign(text.encode()))


class Provider:
    """An OpenID provider over TLS. `claims` go into the next ID token, `twist` may change claims or make the token itself."""

    def __init__(self):
        self.cert, key = certificate(fresh("provider"), "provider")
        self.keys = [Key("RSA", "rsa-1"), Key("EC", "ec-1")]
        self.signer = self.keys[0]
        self.published = [k.jwk() for k in self.keys]
        self.codes, self.claims, self.twist, self.asked = {}, {}, None, []
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                provider.asked.append(self.path)
                if self.path == "/ops/.well-known/openid-configuration":
                    return self.answer(200, provider.description())
                return self.answer(200, {"keys": provider.published}) if self.path == "/keys" else self.answer(404, {})

            def do_POST(self):
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                self.answer(*provider.trade(form, self.headers.get("Authorization", "")))

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        defer(self.server.server_close)
        defer(self.server.shutdown)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        self.issuer = self.url + "/ops"

    def description(self):
        return {"issuer": self.issuer, "authorization_endpoint": self.url + "/authorize?tenant=1", "token_endpoint": self.url + "/token",
                "jwks_uri": self.url + "/keys", "token_endpoint_auth_methods_supported": ["client_secret_basic"]}

    def authorize(self, location):
        """What the provider does with the browser: the query that it comes back with."""
        parts = urllib.parse.urlsplit(location)
        query = dict(urllib.parse.parse_qsl(parts.query))
        check(location.startswith(self.url + "/authorize?tenant=1&"), f"sent to {location}")
        check(query["response_type"] == "code" and query["client_id"] == CLIENT and query["redirect_uri"] == CALLBACK, f"{query}")
        check(query["code_challenge_method"] == "S256" and "openid" in query["scope"].split(), f"{query}")
        code = b64(os.urandom(16))
        self.codes[code] = query
        return {"code": code, "state": query["state"], "session_state": "of-the-provider"}

    def trade(self, form, authorization):
        query = self.codes.pop(form.get("code"), None)
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (urllib.parse.unquote(name), urllib.parse.unquote(secret)) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        if not query or form["redirect_uri"] != CALLBACK or b64(hashlib.sha256(form["code_verifier"].encode()).digest()) != query["code_challenge"]:
            return 400, {"error": "invalid_grant", "error_description": "the code is not good"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "subject-1", "iat": now, "exp": now + 300, "nonce": query["nonce"], **self.claims}
        token = self.twist(claims) if self.twist else None
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": token or self.signer.token(claims)}


provider = hub = None


def bring_up():
    global provider, hub
    provider = Provider()
    secret = fresh("secret")
    with open(secret, "w") as f:
        f.write(SECRET + "\n")
    hub = Hub("--public-url", AT_HOME + "/", "--oidc-issuer", provider.issuer, "--oidc-client-id", CLIENT, "--oidc-client-secret-file", secret,
              "--oidc-ca", provider.cert, "--oidc-role-claim", "realm_access.roles", "--oidc-role-map", "leeward-admins=admin,ops=operator",
              "--oidc-name", "Example login")


def cookie_of(answer, name):
    for line in answer.headers.get_all("Set-Cookie") or []:
        found = re.match(rf"{name}=([^;]*);", line)
        if found:
            return f"{name}={found[1]}"
    return None


def begin(path="/api/v1/session/oidc"):
    answer = hub.ask("GET", path, token=None)
    check(answer.status == 303, f"{answer.status} {answer.text}")
    return answer.headers["Location"], cookie_of(answer, "__Host-leeward-oidc")


def come_back(query, cookie):
    return hub.ask("GET", "/api/v1/session/oidc/callback?" + urllib.parse.urlencode(query), token=None, headers={"Cookie": cookie} if cookie else {})


def round_trip(claims=None, twist=None):
    provider.claims, provider.twist = claims or {"realm_access": {"roles": ["ops"]}}, twist
    location, cookie = begin()
    return come_back(provider.authorize(location), cookie)


def who(answer):
    check(answer.status == 303, f"{answer.status} {answer.text}")
    own = hub.ask("GET", "/api/v1/session", token=None, headers={"Cookie": cookie_of(answer, "__Host-leeward")})
    check(own.status == 200, f"{own.status} {own.text}")
    return own.json


@test
def the_first_password_is_drawn_and_goes_when_it_is_changed():
    path = os.path.join(hub.data, "admin-password")
    check(os.stat(path).st_mode & 0o777 == 0o600, f"mode {oct(os.stat(path).st_mode)}")
    with open(path) as f:
        password = f.read()
    session = hub.sign_in("admin", password)
    answer = hub.ask("POST", "/api/v1/session/password", {"current_password": password, "new_password": "a new one of my own"}, token=None, headers=session)
    check(answer.status == 204, f"{answer.status} {answer.text}")
    check(not os.path.exists(path), "the file with the first password is still there")
    check(hub.ask("POST", "/api/v1/session", {"username": "admin", "password": password}, token=None).status == 401, "the first password still works")
    check(password not in hub.words(), "the password is in the log")
    hub.sign_in("admin", "a new one of my own")


@test
def a_sign_in_at_the_provider_becomes_a_session():
    methods = hub.ask("GET", "/api/v1/session/methods", token=None).json
    check(methods["oidc"] == {"name": "Example login", "url": "/api/v1/session/oidc"}, f"{methods}")
    provider.claims = {"sub": "ada-1", "preferred_username": "ada", "name": "Ada L.", "realm_access": {"roles": ["staff", "ops"]}}
    location, cookie = begin("/api/v1/session/oidc?return_to=/machines%3Fhealth%3Dcritical")
    answer = come_back(provider.authorize(location), cookie)
    check(answer.headers["Location"] == "/machines?health=critical", f"sent to {answer.headers['Location']}")
    own = who(answer)
    check(own["user"]["name"] == "ada" and own["user"]["role"] == "operator" and own["user"]["display_name"] == "Ada L.", f"{own}")
    check(own["method"] == "oidc", f"{own}")


@test
def a_role_follows_the_provider_and_keys_of_both_kinds_count():
    provider.signer = provider.keys[1]
    try:
        own = who(round_trip({"sub": "ada-1", "preferred_username": "someone else", "realm_access": {"roles": ["ops", "leeward-admins"]}}))
    finally:
        provider.signer = provider.keys[0]
    check(own["user"]["name"] == "ada" and own["user"]["role"] == "admin", f"{own['user']}")


@test
def a_name_that_is_taken_does_not_become_another_user():
    own = who(round_trip({"sub": "mallory-1", "preferred_username": "admin", "realm_access": {"roles": ["ops"]}}))
    check(own["user"]["name"] == "admin-2" and own["user"]["role"] == "operator", f"{own['user']}")


@test
def a_key_that_is_published_later_is_found():
    who(round_trip())
    new = Key("RSA", "rsa-2")
    provider.signer = new
    try:
        check("does not publish" in round_trip().json["detail"], "a key that nobody published is taken")
        provider.published.append(new.jwk())
        wait_until(lambda: round_trip().status == 303, "the new key to be fetched", 30)
    finally:
        provider.signer = provider.keys[0]


def unsigned(claims):
    return b64(b'{"alg":"none"}') + "." + b64(json.dumps(claims).encode()) + "."


def signed_with_the_public_key(claims):
    text = b64(b'{"alg":"HS256","kid":"rsa-1"}') + "." + b64(json.dumps(claims).encode())
    return text + "." + b64(hmac.new(provider.keys[0].public_der(), text.encode(), "sha256").digest())


def changed_after_signing(claims):
    head, _, signature = provider.signer.token(claims).split(".")
    return ".".join((head, b64(json.dumps({**claims, "sub": "root"}).encode()), signature))


def with_claims(**more):
    return lambda claims: provider.signer.token({k: v for k, v in {**claims, **more}.items() if v is not None})


@test
def tokens_that_are_not_for_us_are_refused_and_logged():
    stranger = Key("RSA", "rsa-1")
    for what, twist, words in (
            ("no signature", unsigned, "signed with none"),
            ("a public key as a secret", signed_with_the_public_key, "signed with HS256"),
            ("claims changed after signing", changed_after_signing, "signature"),
            ("a key of somebody else", stranger.token, "signature"),
            ("a key that is not published", Key("EC", "ec-9").token, "does not publish"),
            ("two signatures' worth of dots", lambda c: provider.signer.token(c) + ".x", "malformed"),
            ("nothing like a token", lambda c: "x", "malformed"),
            ("another issuer", with_claims(iss="https://elsewhere.example.org"), "another issuer"),
            ("another audience", with_claims(aud="another"), "somebody else"),
            ("two audiences, made for the other", with_claims(aud=[CLIENT, "another"], azp="another"), "somebody else"),
            ("an old one", with_claims(exp=int(time.time()) - 3600), "expired"),
            ("no end", with_claims(exp=None), "expired"),
            ("of tomorrow", with_claims(iat=int(time.time()) + 86400), "future"),
            ("another nonce", with_claims(nonce="replayed"), "another request"),
            ("no nonce", with_claims(nonce=None), "another request"),
            ("nobody", with_claims(sub=""), "names nobody")):
        answer = round_trip(twist=twist)
        check(answer.status == 401, f"{what}: {answer.status} {answer.text}")
        check(words in answer.json["detail"] and answer.json["correction"], f"{what}: {answer.text}")
        check(cookie_of(answer, "__Host-leeward") is None, f"{what}: a session all the same")
    log = hub.words()
    check(log.count("oidc_login_refused") >= 16, "the refusals are not in the log")
    audit = hub.ask("GET", "/api/v1/audit?limit=500").json["items"]
    check(sum(a["action"] == "completeOidc" and a["outcome"] == "denied" for a in audit) >= 16, "the refusals are not in the audit log")


@test
def a_way_back_counts_once_and_in_its_own_browser():
    provider.claims, provider.twist = {"realm_access": {"roles": ["ops"]}}, None
    location, cookie = begin()
    back = provider.authorize(location)
    _, other = begin()
    for what, sent in (("another browser", other), ("no browser", None)):
        answer = come_back(back, sent)
        check(answer.status == 401 and "browser" in answer.json["detail"], f"{what}: {answer.status} {answer.text}")
    who(come_back(back, cookie))
    check(come_back(back, cookie).status == 401, "a state counts twice")
    location, cookie = begin()
    back = provider.authorize(location)
    answer = come_back({"state": back["state"], "error": "access_denied", "error_description": "not you"}, cookie)
    check(answer.status == 401 and "not you" in answer.json["detail"], f"{answer.status} {answer.text}")
    location, cookie = begin()
    answer = come_back({**provider.authorize(location), "iss": "https://elsewhere.example.org"}, cookie)
    check(answer.status == 401 and "another OpenID provider" in answer.json["detail"], f"{answer.status} {answer.text}")
    location, cookie = begin()
    answer = come_back({**provider.authorize(location), "code": "stolen"}, cookie)
    check(answer.status == 401 and "the code is not good" in answer.json["detail"], f"{answer.status} {answer.text}")


@test
def who_has_no_role_or_is_disabled_stays_out():
    answer = round_trip({"sub": "guest-1", "realm_access": {"roles": ["staff"]}})
    check(answer.status == 403 and "no role" in answer.json["detail"], f"{answer.status} {answer.text}")
    who(round_trip({"sub": "bob-1", "preferred_username": "bob", "realm_access": {"roles": ["ops"]}}))
    check(hub.ask("PATCH", "/api/v1/users/bob", {"disabled": True}, headers={"If-Match": "*"}).status == 200, "bob cannot be disabled")
    answer = round_trip({"sub": "bob-1", "realm_access": {"roles": ["ops"]}})
    check(answer.status == 403 and "disabled" in answer.json["detail"], f"{answer.status} {answer.text}")


@test
def nobody_is_sent_to_another_host():
    broken = hub.ask("GET", "/api/v1/session/oidc?return_to=/x%0d%0aSet-Cookie:%20a=b", token=None)
    check(broken.status == 400 and not broken.headers["Set-Cookie"], f"{broken.status} {broken.headers}")
    for wanted in ("//evil.example.org", "/\\evil.example.org", "https://evil.example.org", "/x y"):
        provider.claims, provider.twist = {"realm_access": {"roles": ["ops"]}}, None
        location, cookie = begin("/api/v1/session/oidc?return_to=" + urllib.parse.quote(wanted, safe=""))
        answer = come_back(provider.authorize(location), cookie)
        check(answer.headers["Location"] == "/", f"{wanted!r} leads to {answer.headers['Location']}")


@test
def a_provider_that_is_away_is_said_and_passwords_still_work():
    away = Hub(*[o.replace(str(provider.server.server_port), "1") if "://127" in o else o for o in hub.options])
    answer = away.ask("GET", "/api/v1/session/oidc", token=None)
    check(answer.status == 503 and "passwords work meanwhile" in answer.json["correction"], f"{answer.status} {answer.text}")
    with open(os.path.join(away.data, "admin-password")) as f:
        away.sign_in("admin", f.read())
    away.stop()


@test
def settings_that_cannot_work_are_refused_at_the_start():
    for options, words in ((["--oidc-issuer", "https://x.example.org"], "oidc-client-id"),
                           (["--oidc-issuer", "http://x.example.org"], "https://"),
                           (["--oidc-issuer", "https://x.example.org", "--oidc-client-id", "a", "--public-url", AT_HOME, "--oidc-role-map", "a=king"], "VALUE=ROLE"),
                           (["--api-certificate", provider.cert], "--api-key")):
        log = fresh("refused.log")
        process = start([os.path.join(BIN, "leeward-hub"), "--data", fresh("refused"), "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", *options], log=log,
                        preexec_fn=None)
        wait_until(lambda: process.poll() is not None, f"a hub with {options} to end", 90)
        with open(log) as f:
            check(words in f.read() and process.returncode == 1, f"{options}: {words} is not named")


@test
def a_certificate_that_is_given_is_shown_and_left_alone():
    folder = fresh("given")
    cert, key = certificate(folder, "of the house")
    own = Hub("--api-certificate", cert, "--api-key", key)
    shown = lambda: ssl.get_server_certificate(("127.0.0.1", own.port))
    check(shown().split() == open(cert).read().split(), "another certificate is shown")
    check(not os.path.exists(os.path.join(own.data, "api.pem")), "the hub made one of its own beside it")
    own.stop()


if __name__ == "__main__":
    bring_up()
    main()
