#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A group that makes no group points is an alert that says who and why, until it makes one again; and it is none while the alert of a member
says it already. The settings raise and clear at once; what is left is the group's own patience: its next try."""
from api_client import Api
from fleet import Fleet
from harness import check, main, run, test, wait_until

CODE = "no_group_point"


def quick_fleet(count):
    fleet = Fleet(count)
    api = Api(fleet.site.env)
    api.done("PATCH", "/settings", {"alert_raise_after_seconds": 0, "alert_clear_after_seconds": 0}, If_Match="*")
    fleet.protect()
    fleet.create_group("shop", fleet.machines)
    fleet.wait_group_points("shop", 2)
    return fleet, api


def alerts(api, states="firing,acknowledged,resolved", code=CODE):
    return api.done("GET", f"/alerts?code={code}&state={states}")["items"]


def hide(fleet, hidden, is_hidden=True):
    """The others have no way to one member; the hub, the node and the vault do."""
    for m in fleet.machines:
        if m is not hidden:
            run("ip", "-n", m.namespace, "route", "add" if is_hidden else "del", "blackhole", f"{hidden.address}/32")


@test
def a_group_without_points_is_an_alert_that_says_who_and_why_until_it_makes_one_again():
    fleet, api = quick_fleet(3)
    shown = fleet.group("shop")
    check(shown["health"] == "healthy" and not shown["cause_code"], f"a group that makes points is {shown}")
    hide(fleet, fleet.machines[2])
    late = wait_until(lambda: (g := fleet.group("shop"))["cause_code"] == CODE and g, "the group to be late", 120, 0.5)
    check(late["health"] == "warning" and late["cause_values"]["age_seconds"] > 32, f"it is late after {late['cause_values']}: {late['cause']}")
    check(not alerts(api), f"an alert without the patience of a try: {alerts(api)}")
    alert = wait_until(lambda: alerts(api, "firing"), "the alert", 120, 0.5)[0]
    check((alert["subject_kind"], alert["subject_name"], alert["group_id"]) == ("group", "shop", shown["id"]), alert)
    check(alert["values"]["form"] in ("missed", "advised") and alert["values"]["member"] in ("m0", "m1", "m2"), f"it says {alert['values']}")
    check(alert["cause"].startswith("No group point for ") and alert["values"]["cause"][:40] in alert["cause"] and alert["remedy"], alert)
    check(alert["values"]["age_seconds"] >= 60, f"it came after {alert['values']['age_seconds']} s")
    check([a["id"] for a in fleet.site.items("alert", "list")] == [alert["id"]], f"one thing is wrong: {fleet.site.items('alert', 'list')}")
    known = {p["id"] for p in fleet.group_points("shop")}
    hide(fleet, fleet.machines[2], False)
    fleet.wait_group_points("shop", 1, known)
    wait_until(lambda: api.done("GET", f"/alerts/{alert['id']}")["state"] == "resolved", "the alert to be resolved", 60, 0.5)
    wait_until(lambda: not fleet.group("shop")["cause_code"], "the group to be right again", 60, 0.5)
    check(len(alerts(api)) == 1, f"told more than once: {alerts(api)}")


@test
def a_member_that_is_gone_is_told_by_its_own_alert_alone():
    fleet, api = quick_fleet(2)
    fleet.machines[1].kill()
    wait_until(lambda: alerts(api, "firing", "agent_silent"), "the alert of the agent", 120, 0.5)
    late = wait_until(lambda: (g := fleet.group("shop"))["cause_values"].get("age_seconds", 0) > 100 and g, "a time in which the group's own would have come", 180, 0.5)
    check(late["cause_values"]["form"] == "silent" and "m1 is not connected" in late["cause"], f"the group says {late['cause']}")
    check(not alerts(api), f"it is told twice: {alerts(api)}")
    known = {p["id"] for p in fleet.group_points("shop")}
    fleet.machines[1].start()
    fleet.wait_group_points("shop", 1, known)
    wait_until(lambda: not fleet.group("shop")["cause_code"], "the group to be right again", 60, 0.5)
    check(not alerts(api), f"the member's return is told: {alerts(api)}")


@test
def a_member_that_takes_no_part_is_an_alert_of_the_group_for_nothing_else_tells_it():
    fleet, api = quick_fleet(2)
    fleet.site.cli("machine", "unprotect", "m1")
    alert = wait_until(lambda: alerts(api, "firing"), "the alert", 180, 0.5)[0]
    check("m1 is not protected" in alert["cause"] and "leeward group remove" in alert["remedy"], f"it says {alert['cause']}: {alert['remedy']}")
    fleet.site.cli("group", "delete", "shop")
    check(not alerts(api), f"the alert of a group that is deleted: {alerts(api)}")


if __name__ == "__main__":
    main()
