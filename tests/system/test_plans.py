#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Recovery plans with real daemons: a plan as a YAML file, its dry run, a test and an unplanned run of several machines with gates, scripts, webhooks and
waits, its report, and mistakes that are refused before anything starts."""
import http.server
import json
import threading

from harness import CliError, check, defer, main, note, test, wait_until, fresh
from plan_site import PlanSite, scripts_folder

SCRIPT = """#!/bin/sh
read -r told
[ "$(id -u)" != 0 ] || exit 4
echo "$1 $LEEWARD_KIND $(printf %s "$told" | grep -o '"name": *"[^"]*"' | tr '\\n' ' ')"
"""


class Receiver(http.server.BaseHTTPRequestHandler):
    """Webhooks, and a service that becomes well when it has been asked a few times."""
    hooks, asked, well_after = [], 0, 3

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Receiver.hooks.append((self.headers["X-Leeward-Delivery"], body))
        self._answer(204)

    def do_GET(self):
        Receiver.asked += 1
        self._answer(200 if Receiver.asked > Receiver.well_after else 503)

    def _answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    defer(server.shutdown)
    return f"http://127.0.0.1:{server.server_address[1]}"


def plan_text(url):
    return f"""
# The shop, database first.
name: shop
description: "yes"
target: rack
groups:
  - name: data
    steps:
      - {{name: database, type: machine, machine: m0, options: {{network: prod, test_network: bubble, cpus: 2}}}}
      - {{name: well, type: wait, check: {{type: http, url: "{url}/health"}}, after: [database], timeout_seconds: 600}}
  - name: front
    steps:
      - name: web
        type: machine
        machine: m1
        retries: 1
      - name: worker
        type: machine
        machine: m2
      - name: look
        type: gate
        question: Does the shop answer?
        after: [web]
        only: [test]
      - {{name: dns, type: script, script: switch-dns, arguments: [shop.example.org], after: [look]}}
      - {{name: told, type: webhook, url: "{url}/hook", body: {{channel: ops}}, after: [dns]}}
"""


def refused(site, *command):
    try:
        site.cli(*command)
    except CliError as refusal:
        return refusal.text
    raise AssertionError(f"{command} was not refused")


def gate_of(site, run_id):
    """The job of the gate that waits."""
    report = site.cli("plan", "report", run_id)
    return next((s["job_id"] for s in report["steps"] if s["state"] == "waiting_for_input"), None)


def the_site(count=3):
    """With the plan of the shop."""
    folder = scripts_folder({"switch-dns": SCRIPT})
    Receiver.hooks, Receiver.asked = [], 0
    site = PlanSite(count, daemon_options={"hub": ["--scripts-dir", folder]})
    site.url = receiver()
    site.file = site.plan_file(plan_text(site.url), "shop.yaml")
    return site


@test
def a_plan_is_a_file_and_comes_back_as_one():
    s = the_site()
    file = s.file
    check(s.cli("plan", "validate", file)["name"] == "shop" and not s.items("plan", "list"), "validating stored it")
    plan = s.cli("plan", "apply", file)
    check(plan["groups"][0]["steps"][0]["options"]["cpus"] == 2 and plan["description"] == "yes", f"{plan}")
    exported = s.cli_result("plan", "export", "shop").stdout
    again = s.plan_file(exported, "again.yaml")
    check("unchanged" in s.cli_result("plan", "apply", again).stdout, f"not the same again:\n{exported}")
    check(s.cli("plan", "show", "shop")["etag"] == plan["etag"], "an unchanged plan has a new version")
    check(s.cli_result("plan", "apply", s.plan_file(json.dumps(s.cli("plan", "export", "shop")))).stdout == "shop: unchanged\n",
          "JSON is not the same")
    changed = exported.replace("Does the shop answer?", "Is it well?")
    check("changed" in s.cli_result("plan", "apply", s.plan_file(changed, "changed.yaml")).stdout, "a change was not taken")
    check(s.cli("plan", "show", "shop")["etag"] != plan["etag"], "a change without a version")
    s.cli("plan", "apply", file)
    mistakes_are_refused_before_anything_starts(s)


def mistakes_are_refused_before_anything_starts(s):
    gate = {"type": "gate", "question": "?"}
    one = lambda *steps, **more: s.plan_file({"name": "bad", "groups": [{"name": "g", "steps": list(steps)}], **more})
    a, b = dict(gate, name="a", after=["b"]), dict(gate, name="b", after=["a"])
    check("a -> b -> a" in refused(s, "plan", "validate", one(a, b)), "a cycle")
    m = {"name": "a", "type": "machine", "machine": "m0"}
    check("m9" in refused(s, "plan", "validate", one(dict(m, machine="m9"))), "an unknown machine")
    check("nowhere" in refused(s, "plan", "apply", one(m, target="nowhere")), "an unknown target")
    check("same machine" in refused(s, "plan", "apply", one(m, dict(m, name="b"))), "a machine twice")
    check("line 2" in refused(s, "plan", "validate", s.plan_file("name: x\n  y: [", "broken.yaml")), "broken YAML")
    check("kind" in refused(s, "plan", "run", "shop", "--kind", "sideways"), "an unknown kind")
    check("no recovery point" in refused(s, "plan", "run", "shop", "--point", "2001-01-01T00:00:00Z"), "no point at that time")
    check("only a test" in refused(s, "plan", "run", "shop", "--kind", "unplanned", "--cleanup"), "cleanup of a real one")
    s.target.mark("refused", "m2")
    check("no room" in refused(s, "plan", "run", "shop", "--kind", "unplanned"), "a target without room")
    s.target.mark("refused")
    check(set(s.states().values()) == {"protected"} and not s.items("failover", "list"), "something began")


@test
def a_test_run_goes_through_all_its_steps_and_is_cleaned_up():
    s = the_site()
    s.cli("plan", "apply", s.file)
    forecast = s.cli("plan", "run", "shop", "--dry-run")
    check(not forecast["predicted_known"] and len(forecast["steps"]) == 7, f"{forecast}")
    job = s.cli("plan", "run", "shop", "--no-wait")
    run_id = job["params"]["run_id"]
    gate = wait_until(lambda: gate_of(s, run_id), "the gate to ask", 120, 0.2)
    check("another run" in refused(s, "plan", "run", "shop"), "a machine in two runs")
    check(s.cli("job", "show", gate)["waiting_for"] == "Does the shop answer?", "the question")
    replicas = s.target.replicas()
    check(replicas["m0"]["network"] == "bubble" and replicas["m0"]["isolated"], f"a test in production's network: {replicas['m0']}")
    # The hub dies while somebody thinks.
    s.kill("hub")
    wait_until(lambda: s.cli("job", "show", gate)["status"] == "waiting_for_input", "the hub to be back", 120, 0.3)
    s.cli("job", "answer", gate, "continue")
    s.cli("job", "wait", job["id"], timeout=600)
    report = s.cli("plan", "report", run_id)
    steps = {step["name"]: step for step in report["steps"]}
    check(report["state"] == "succeeded" and report["verdict"] == "passed", f"{report}")
    check({n: x["state"] for n, x in steps.items()} == dict.fromkeys(steps, "succeeded"), f"{steps}")
    check(all(x["attempts"] == 1 for x in steps.values()), f"a step ran twice: {steps}")
    check(steps["dns"]["detail"].startswith("shop.example.org test") and '"m0"' in steps["dns"]["detail"], f"{steps['dns']}")
    check(Receiver.asked > 3, "the wait did not wait")
    hook = Receiver.hooks[-1][1]
    check(hook["step"] == "told" and hook["body"] == {"channel": "ops"} and len(hook["machines"]) == 3, f"{hook}")
    check(report["rto_seconds"] > 0 and report["rpo_seconds"] > 0, f"{report}")
    check(len(report["machines"]) == 3 and all(m["rto_seconds"] and m["rpo_seconds"] for m in report["machines"]), f"{report}")
    page = fresh("report.html")
    s.cli("plan", "report", run_id, "--html", page)
    with open(page) as f:
        text = f.read()
    check("<h1>shop</h1>" in text and "shop.example.org test" in text and text.count("<tr>") >= 3 + 7, "the page")
    # It stays until somebody takes it away.
    check(len(s.target.replicas()) == 3, "the replicas of a test are gone")
    check("is a test" in refused(s, "plan", "commit", run_id), "a test was committed")
    s.cli("plan", "cleanup", run_id, "--outcome", "passed")
    check(not s.target.replicas() and not s.items("branch", "list"), "something is left")
    forecast = s.cli("plan", "run", "shop", "--dry-run")
    check(forecast["predicted_known"] and forecast["predicted_rto_seconds"] > 0, f"{forecast}")


@test
def an_unplanned_run_fences_all_and_rolls_back():
    s = the_site()
    s.cli("plan", "apply", s.file)
    report = s.cli("plan", "run", "shop", "--kind", "unplanned", timeout=600)
    check(report["state"] == "succeeded" and set(s.states().values()) == {"failed_over"}, f"{report}")
    replicas = s.target.replicas()
    check(replicas["m0"]["network"] == "prod" and not replicas["m0"]["isolated"], f"{replicas['m0']}")
    check(next(x for x in report["steps"] if x["name"] == "look")["state"] == "skipped", "a gate of tests was asked")
    note(f"RTO of 3 machines: {report['rto_seconds']:.1f} s")
    s.cli("plan", "rollback", report["run_id"], timeout=600)
    check(not s.target.replicas(), "replicas are left")
    wait_until(lambda: set(s.states().values()) == {"protected"}, "all sources to be protected again", 180, 0.5)


@test
def a_failure_stops_the_plan_and_says_why():
    s = the_site()
    s.cli("plan", "apply", s.file)
    s.target.mark("dead", "m1")
    answer = refused(s, "plan", "run", "shop", "--cleanup")
    check("web" in answer and "the rack is on fire" in answer, answer)
    report = s.cli("plan", "report", s.items("plan", "runs")[0]["id"])
    steps = {step["name"]: step for step in report["steps"]}
    check(report["state"] == "failed" and steps["web"]["state"] == "failed" and steps["web"]["attempts"] == 2, f"{steps}")
    check(steps["dns"]["state"] == "cancelled" and steps["dns"]["attempts"] == 0, f"{steps['dns']}")
    wait_until(lambda: not s.target.replicas() and not s.items("branch", "list"), "a failed drill to be cleared away", 60)
    s.target.mark("dead")
    # And it can be cancelled at the gate.
    job = s.cli("plan", "run", "shop", "--cleanup", "--no-wait")
    wait_until(lambda: gate_of(s, job["params"]["run_id"]), "the gate to ask", 120, 0.2)
    s.cli("job", "cancel", job["id"])
    wait_until(lambda: s.cli("plan", "report", job["params"]["run_id"])["state"] == "cancelled", "the run to be cancelled", 60)
    wait_until(lambda: not s.target.replicas() and not s.items("branch", "list"), "a cancelled drill to be cleared away", 60)
    s.cli("plan", "delete", "shop")
    check(not s.items("plan", "list") and len(s.items("plan", "runs")) == 2, "the runs went with their plan")


if __name__ == "__main__":
    main()
