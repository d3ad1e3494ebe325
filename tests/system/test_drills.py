#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drills on a schedule: the hub starts them by itself, takes the replicas away, knows how fresh they are, and says when one is overdue."""
from api_client import Api
from harness import CliError, check, main, test, wait_until
from plan_site import PlanSite


def freshness(site):
    return {m["machine_name"]: m for m in site.items("drill", "machines")}


def page(site, path):
    status, _, text = Api(site.env).raw("GET", path)
    check(status == 200, f"{path}: {status}")
    return text.decode()


def metric(site, name, label):
    for line in page(site, "/metrics").splitlines():
        if line.startswith(name + "{") and label in line:
            return float(line.rsplit(" ", 1)[1])
    return None


@test
def drills_start_by_themselves_and_one_that_is_overdue_is_told():
    site = PlanSite(2)
    site.cli("settings", "set", "alert_raise_after_seconds", "0")
    plan = {"name": "both", "groups": [{"name": "all", "steps": [{"name": n, "type": "machine", "machine": n} for n in site.names]}]}
    site.cli("plan", "apply", site.plan_file(plan))
    overview = lambda: site.cli("api", "GET", "/api/v1/overview")["drills"]
    check(overview() == {"fresh": 0, "overdue": 0, "pending": 0, "uncovered": 2, "running": 0}, f"{overview()}")
    for words, reason in ((("--plan", "both", "--policy", "default", "--interval", "1d"), "one of them"),
                          (("--policy", "default", "--interval", "1d"), "target"),
                          (("--plan", "nowhere", "--interval", "1d"), "nowhere"),
                          (("--plan", "both", "--interval", "1d", "--window", "someday"), "window"),
                          (("--plan", "both", "--interval", "1d", "--time-zone", "Mars/Base"), "time zone"),
                          (("--plan", "both", "--interval", "1d", "--overdue-after", "1h"), "shorter")):
        try:
            site.cli("drill", "create", "bad", *words)
            raise AssertionError(f"{words} was not refused")
        except CliError as refusal:
            check(reason in refusal.text, f"{words}: {refusal.text}")

    drill = site.cli("drill", "create", "weekly", "--plan", "both", "--interval", "7d", "--target", "rack", "--network", "bubble")
    check(drill["overdue_after_seconds"] == 10.5 * 86400 and drill["machine_count"] == 2, f"{drill}")
    wait_until(lambda: site.cli("drill", "show", "weekly")["last_run_state"] == "succeeded", "the drill to come and go by itself", 120, 0.3)
    shown = site.cli("drill", "show", "weekly")
    check(shown["last_run_verdict"] == "passed", f"{shown}")
    report = site.cli("plan", "report", shown["last_run_id"])
    check(report["requested_by"] == "drill:weekly" and len(report["machines"]) == 2, f"{report}")
    check({f["state"] for f in site.items("failover", "list")} == {"cleaned"} and not site.target.replicas(), "replicas are left")
    check(all(m["last_good_at"] and not m["overdue"] for m in freshness(site).values()), f"{freshness(site)}")
    check(overview()["fresh"] == 2 and overview()["uncovered"] == 0, f"{overview()}")
    check(metric(site, "leeward_machine_last_good_drill_timestamp_seconds", 'name="m0"') > 1e9, "no metric of the last good drill")
    check(metric(site, "leeward_drill_machines", 'state="fresh"') == 2, "no metric of fresh drills")
    site.cli("drill", "set", "weekly", "--enabled", "no")

    # One machine does not come up any more: its drill is overdue, and people hear of it.
    site.target.mark("broken", "m1")
    site.cli("drill", "create", "often", "--policy", "default", "--interval", "2s", "--overdue-after", "12s", "--target", "rack")
    wait_until(lambda: freshness(site)["m1"]["overdue"], "the drill of m1 to be overdue", 90, 0.5)
    wait_until(lambda: "m1" in [a["subject_name"] for a in site.items("alert", "list") if a["code"] == "drill_overdue"], "the alert", 60, 0.5)
    # The other one has its good drills all the while.
    before = freshness(site)["m0"]["last_good_at"]
    wait_until(lambda: freshness(site)["m0"]["last_good_at"] > before, "the next good drill of m0", 120, 0.5)
    check(overview()["overdue"] >= 1 and freshness(site)["m1"]["overdue"], f"{overview()}")
    report = page(site, "/api/v1/reports/weekly")
    check("Last good drill" in report and "overdue" in report, "the weekly report says nothing of drills")
    # Mended, it is fresh again.
    site.target.mark("broken")
    wait_until(lambda: not freshness(site)["m1"]["overdue"], "the drill of m1 to be good again", 120, 0.5)
    site.cli("drill", "delete", "often")
    wait_until(lambda: not site.target.replicas() and not site.items("branch", "list"), "the last drill to be over", 120, 0.5)


if __name__ == "__main__":
    main()
