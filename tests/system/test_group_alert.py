#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A group that makes no group points is an alert that says who and why, until it makes one again; and it is none while the alert of a member
says it already. The settings raise and clear at once; what is left is the group's own patience: its next try."""
from datetime import datetime

from api_client import Api
from fleet import Fleet
from harness import check, main, test, wait_until

CODE = "no_group_point"
LATE_SECONDS = 32  # two intervals of a second, and the silence that counts for none
PATIENCE_SECONDS = 31  # the next try, and as much


def raise_after(api, seconds):
    api.done("PATCH", "/settings", {"alert_raise_after_seconds": seconds, "alert_clear_after_seconds": 0}, If_Match="*")


def quick_fleet(count):
    fleet = Fleet(count)
    api = Api(fleet.site.env)
    raise_after(api, 0)
    fleet.protect()
    fleet.create_group("shop", fleet.machines)
    fleet.wait_group_points("shop", 2)
    return fleet, api


def alerts(api, states="firing,acknowledged,resolved", code=CODE):
    return api.done("GET", f"/alerts?code={code}&state={states}")["items"]


def told(api, forms):
    """The alert once it says why in one of these forms: at a busy moment it may know less, and its words are renewed once a minute."""
    return next((a for a in alerts(api, "firing") if a["values"]["form"] in forms), None)


def waited_seconds(alert):
    """From when the alert was found until it was raised."""
    began, raised = (datetime.fromisoformat(alert[name].replace("Z", "+00:00")) for name in ("since", "raised_at"))
    return (raised - began).total_seconds()


@test
def a_group_without_points_is_an_alert_that_says_who_and_why_until_it_makes_one_again():
    fleet, api = quick_fleet(3)
    shown = fleet.group("shop")
    check(shown["health"] == "healthy" and not shown["cause_code"], f"a group that makes points is {shown}")
    fleet.hide(fleet.machines[2])
    late = wait_until(lambda: (g := fleet.group("shop"))["cause_code"] == CODE and g, "the group to be late", 120, 0.5)
    check(late["health"] == "warning" and late["cause_values"]["age_seconds"] >= LATE_SECONDS, f"it is late after {late['cause_values']}: {late['cause']}")
    alert = wait_until(lambda: told(api, ("missed", "advised")), "the alert to say what the members say", 240, 0.5)
    check((alert["subject_kind"], alert["subject_name"], alert["group_id"]) == ("group", "shop", shown["id"]), alert)
    check(waited_seconds(alert) >= PATIENCE_SECONDS, f"an alert without the patience of a try: {alert}")
    check(alert["values"]["member"] in ("m0", "m1", "m2"), f"it says {alert['values']}")
    check(alert["cause"].startswith("No group point for ") and alert["values"]["cause"][:40] in alert["cause"] and alert["remedy"], alert)
    check(alert["values"]["age_seconds"] >= LATE_SECONDS + PATIENCE_SECONDS - 1, f"it came after {alert['values']['age_seconds']} s")
    listed = [a["id"] for a in fleet.site.items("alert", "list") if a["code"] == CODE]
    check(listed == [alert["id"]], f"it is told as {listed}")
    known = {p["id"] for p in fleet.group_points("shop")}
    fleet.hide(fleet.machines[2], False)
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
    raise_after(api, 120)  # a busy machine may need longer for the way back than the group is patient
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
