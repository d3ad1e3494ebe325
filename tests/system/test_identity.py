#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may talk to whom: wrong, expired and foreign certificates, and enrolment tokens that are used, mistyped, for another role
or of another hub. Each refusal says what to do; an identity that is right gets through on the same port."""
import os
import subprocess
import time

from harness import BIN, Site, check, fresh, main, run, test, wait_until

CA_CONF = """[ca]
default_ca = it
[it]
database = {work}/index
serial = {work}/serial
new_certs_dir = {work}
default_md = sha256
policy = any
copy_extensions = copyall
unique_subject = no
[any]
commonName = optional
organizationName = optional
organizationalUnitName = optional
"""


def authority(folder):
    """A CA of somebody else."""
    os.makedirs(folder, exist_ok=True)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=Other",
        "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem")
    return folder


def reissue(identity, ca, begin, end):
    """The same names as the certificate of `identity` has, from another authority or for another time."""
    work = fresh("issue")
    os.mkdir(work)
    for name, content in (("index", ""), ("serial", "1000\n"), ("conf", CA_CONF.format(work=work))):
        with open(os.path.join(work, name), "w") as f:
            f.write(content)
    run("openssl", "x509", "-in", f"{identity}/cert.pem", "-x509toreq", "-signkey", f"{identity}/key.pem", "-copy_extensions", "copyall",
        "-out", f"{work}/csr")
    run("openssl", "ca", "-batch", "-notext", "-config", f"{work}/conf", "-cert", f"{ca}/ca.pem", "-keyfile", f"{ca}/ca.key", "-in",
        f"{work}/csr", "-out", f"{work}/cert.pem", "-startdate", stamp(begin), "-enddate", stamp(end))
    return f"{work}/cert.pem", f"{identity}/key.pem"


def stamp(offset_s):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + offset_s))


def call(port, path, certificate=None, messages=1):
    """gRPC status of a call with as many empty messages, or None when TLS did not let it through."""
    body = fresh("body")
    with open(body, "wb") as f:
        f.write(b"\0" * 5 * messages)
    command = ["curl", "--silent", "--show-error", "--insecure", "--http2", "--max-time", "10",
               "--dump-header", "-", "--output", "/dev/null", "-H", "content-type: application/grpc", "-H", "te: trailers",
               "--data-binary", f"@{body}"]
    if certificate:
        command += ["--cert", certificate[0], "--key", certificate[1]]
    for _ in range(10):
        result = subprocess.run([*command, f"https://127.0.0.1:{port}{path}"], capture_output=True, text=True, timeout=20)
        if result.returncode != 92:
            break
        # This curl loses an answer that comes, with the reset behind it, before it has sent its body.
    for line in result.stdout.split("\n"):
        if line.lower().startswith("grpc-status:"):
            return int(line.split(":")[1])
    return None


HEALTH = "/grpc.health.v1.Health/Check"
SESSION = "/leeward.control.v1.Control/Session"


@test
def only_certificates_of_the_hub_that_are_valid_get_through():
    site = Site()
    node, vault = site.port_base + 2, site.port_base + 3
    agent = os.path.join(site.data, "agent", "identity")
    hub_ca = os.path.join(site.data, "hub", "ca")
    day = 86400
    good = (f"{agent}/cert.pem", f"{agent}/key.pem")
    foreign = reissue(agent, authority(fresh("foreign")), -day, day)
    expired = reissue(agent, hub_ca, -9 * day, -day)
    early = reissue(agent, hub_ca, day, 9 * day)
    again = reissue(agent, hub_ca, -day, day)
    for port in (node, vault):
        check(call(port, HEALTH, good) is not None, f"port {port} refuses a good certificate")
        check(call(port, HEALTH, again) is not None, f"port {port} refuses a certificate that the hub's CA signed")
        check(call(port, HEALTH, foreign) is None, f"port {port} takes a foreign certificate")
        check(call(port, HEALTH, expired) is None, f"port {port} takes an expired certificate")
        check(call(port, HEALTH, early) is None, f"port {port} takes a certificate that is not valid yet")
        check(call(port, HEALTH) is None, f"port {port} takes a client without a certificate")
    site.machine()


@test
def control_session_needs_a_certificate():
    site = Site()
    status = call(site.port_base + 1, SESSION, messages=0)  # the hub answers as soon as the call begins: curl is to have nothing left to send then
    check(status in (16, 7), f"a session without a certificate ended with gRPC status {status} instead of 16")


def enrol(site, token, role="agent"):
    """Starts a second daemon with a token in an empty folder; its exit status (None: it runs) and what it said."""
    data, log = fresh("second"), fresh("second.log")
    os.mkdir(data)
    with open(log, "w") as out:
        process = subprocess.Popen([os.path.join(BIN, f"leeward-{role}"), "--data", data, "--hub", f"127.0.0.1:{site.port_base + 1}",
                                    "--token", token, *(["--instance", "second"] if role == "agent" else ["--listen", "127.0.0.1:0"])],
                                   stdout=out, stderr=out)
    try:
        wait_until(lambda: process.poll() is not None or os.path.exists(f"{data}/identity/cert.pem"), "the enrolment to end", 40)
        enrolled = os.path.exists(f"{data}/identity/cert.pem")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        if role == "agent":
            run(os.path.join(BIN, "leeward-agent"), "--uninstall", "--instance", "second", "--data", data, ok=None)
    with open(log) as f:
        return enrolled, process.returncode, f.read()


def refused(site, token, role, words):
    enrolled, status, said = enrol(site, token, role)
    check(not enrolled and status not in (0, None), f"it enrolled or ended with {status}: {said[-300:]}")
    check(any(word in said.lower() for word in words), f"the refusal does not say why: {said[-400:]}")
    check(token not in said and token[4:40] not in said, "the token is in the log")


@test
def token_works_once():
    site = Site()
    token = site.cli("enrol-token", "create", "--role", "agent")["token"]
    enrolled, _, said = enrol(site, token)
    check(enrolled, f"a good token was refused: {said[-300:]}")
    refused(site, token, "agent", ["used"])


@test
def wrong_tokens_are_refused_with_the_reason():
    site = Site()
    token = site.cli("enrol-token", "create", "--role", "agent")["token"]
    secret, fingerprint = token.split(".")
    refused(site, token, "vault", ["role", "agent"])
    refused(site, "lwe_" + "A" * 43 + "." + fingerprint, "agent", ["token"])
    refused(site, secret, "agent", ["token"])
    refused(site, secret + "." + "0" * 64, "agent", ["fingerprint", "not the hub", "another hub"])


if __name__ == "__main__":
    main()
