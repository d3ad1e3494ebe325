# SPDX-License-Identifier: Apache-2.0
"""The API as a program uses it: one request, its status and its JSON."""
import http.client
import json
import ssl
import urllib.parse

from harness import check, wait_until


class Api:
    """With the credentials of an environment as `leeward up` leaves it (LEEWARD_URL, LEEWARD_TOKEN, LEEWARD_CA)."""

    def __init__(self, env):
        self.token = env["LEEWARD_TOKEN"]
        self.context = ssl.create_default_context(cafile=env["LEEWARD_CA"])
        self.address = urllib.parse.urlsplit(env["LEEWARD_URL"])

    def raw(self, method, path, body=None, **headers):
        """Status, headers and bytes. A connection that breaks is an OSError: wait_until tries again."""
        connection = http.client.HTTPSConnection(self.address.hostname, self.address.port, context=self.context, timeout=60)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Authorization": "Bearer " + self.token, "Content-Type": kind,
                                **{k.replace("_", "-"): v for k, v in headers.items()}})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except http.client.HTTPException as problem:
            raise OSError(str(problem)) from problem
        finally:
            connection.close()

    def ask(self, method, path, body=None, **headers):
        status, _, text = self.raw(method, "/api/v1" + path, body, **headers)
        return status, json.loads(text) if text else None

    def done(self, method, path, body=None, **headers):
        status, answer = self.ask(method, path, body, **headers)
        check(200 <= status < 300, f"{method} {path}: {status} {answer}")
        return answer

    def ended(self, job, timeout=400, every=0.1):
        """The job when it is over, however it went."""
        def over():
            now = self.done("GET", f"/jobs/{job['id']}")
            return now if now["status"] in ("succeeded", "failed", "cancelled") else None
        return wait_until(over, f"{job['kind']} to end", timeout, every)
