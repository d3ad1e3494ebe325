#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Alerts from a real vault to a real SMTP server and a real webhook receiver: raised, told once, told again when the receiver was away
or the hub was killed, resolved.

What is wrong is the disk of the vault: it counts as filling from a percentage on that is a setting, so the alert comes and goes when the
setting is changed, with the vault's real numbers.
"""
import csv
import io
import json

from api_client import Api
from mail_peer import Authority, Mailbox, Webhook, signature_is_right
from harness import Site, check, fresh, main, test, wait_until

SECRET = "the key of the signature"


def quick_site():
    """A hub that raises and clears at once, and a vault; no agent."""
    site = Site("--no-agent", wait=False)

    def ready():
        site.load_env()
        status = site.cli("status")
        return status["vaults"]["online"] and status["nodes"]["online"]
    wait_until(ready, "the hub and its vault", 90, 0.3)
    api = Api(site.env)
    filling(api, 100)
    api.done("PATCH", "/settings", {"alert_raise_after_seconds": 0, "alert_clear_after_seconds": 0, "alert_silent_seconds": 86400}, If_Match="*")
    wait_until(lambda: not api.done("GET", "/alerts?state=firing")["items"], "nothing to be wrong", 60)
    return site, api


def filling(api, percent):
    api.done("PATCH", "/settings", {"alert_full_warning_percent": percent, "alert_full_critical_percent": 100}, If_Match="*")


def firing(api, count=1):
    return wait_until(lambda: [a for a in api.done("GET", "/alerts?state=firing&code=vault_filling")["items"]][:count],
                      "an alert to be raised", 60)[0]


def resolved(api, alert):
    wait_until(lambda: api.done("GET", f"/alerts/{alert['id']}")["state"] == "resolved", "the alert to be resolved", 60)


def in_file(name, text):
    path = fresh(name)
    with open(path, "w") as f:
        f.write(text)
    return path


def webhook_channel(api, hook, authority, name="hook"):
    return api.done("POST", "/alert-channels", {"name": name, "kind": "webhook", "url": hook.url, "secret": SECRET,
                                                "ca_certificate": authority.pem, "group_seconds": 0})


@test
def an_alert_reaches_a_mailbox_and_a_webhook_once_and_so_does_its_end():
    site, api = quick_site()
    authority = Authority()
    mailbox, implicit, hook = Mailbox(authority), Mailbox(authority, implicit_tls=True), Webhook(authority)
    common = {"kind": "smtp", "server": "127.0.0.1", "username": "hub", "secret": "sesame", "from": "leeward@example.com",
              "to": ["ops@example.com", "night@example.com"], "ca_certificate": authority.pem, "group_seconds": 0}
    api.done("POST", "/alert-channels", {**common, "name": "mail", "port": mailbox.port})
    api.done("POST", "/alert-channels", {**common, "name": "mails", "port": implicit.port, "security": "tls",
                                         "min_severity": "critical"})
    created = site.cli("channel", "create", "hook", "--hook", hook.url, "--secret-file", in_file("secret", SECRET + "\n"), "--ca-file",
                       in_file("ca.pem", authority.pem), "--group", "0s")
    check("secret" not in created and created["has_secret"], f"the secret comes out: {created}")
    check("sesame" not in json.dumps(api.done("GET", "/alert-channels")), "the password comes out")
    filling(api, 1)
    alert = firing(api)
    check(alert["severity"] == "warning" and "disk is" in alert["cause"] and alert["remedy"], alert)
    wait_until(lambda: mailbox.mails and hook.requests, "the mail and the webhook", 60)
    mail, request = mailbox.mails[0], hook.requests[0]
    check(mail["Subject"] == f"[Leeward] warning: {alert['subject_name']}: A vault is filling up", mail["Subject"])
    check(mail.receivers == ["ops@example.com", "night@example.com"] and "ops@example.com" in mail["To"], mail.receivers)
    text = mail.get_body(("plain",)).get_content()
    check(alert["cause"] in text and "What to do" in text, text)
    check(signature_is_right(request, SECRET) and not signature_is_right(request, SECRET + "x"), "the signature is wrong")
    told = next(a for a in request["json"]["alerts"] if a["code"] == "vault_filling")
    check(told["id"] == alert["id"] and told["change"] == "raised" and told["title"], told)
    overview = api.done("GET", "/overview")
    check("vault_filling" in [p["code"] for p in overview["problems"]], overview["problems"])
    check(alert["id"] in [a["id"] for a in site.items("alert", "list")], "leeward alert list does not have it")
    taken = site.cli("alert", "ack", alert["id"], "--note", "the disk is ordered")
    check(taken["state"] == "acknowledged" and taken["note"] == "the disk is ordered", taken)
    unknown = "00000000-0000-4000-8000-000000000000"
    several = site.cli_result("alert", "ack", unknown, alert["id"], "-o", "json")
    check(several.returncode != 0 and unknown in several.stderr and "1 of 2 alerts" in several.stderr, several.stderr)
    check([(a["id"], a["note"]) for a in json.loads(several.stdout)["items"]] == [(alert["id"], "the disk is ordered")],
          f"one that is not there cost the other one its line, or its note: {several.stdout}")
    filling(api, 100)
    resolved(api, alert)
    wait_until(lambda: len(mailbox.mails) == 2 and len(hook.requests) == 2, "word of the end", 60)
    check("resolved" in mailbox.mails[1]["Subject"], mailbox.mails[1]["Subject"])
    check(len({m["Message-ID"] for m in mailbox.mails}) == 2, "two mails have one id")
    check(not implicit.mails, "a channel for critical alerts was told of a warning")
    delivery = api.done("POST", "/alert-channels/mails/test")
    wait_until(lambda: api.done("GET", f"/alert-deliveries/{delivery['id']}")["state"] == "delivered", "the test mail", 60)
    check(implicit.mails[0]["Message-ID"].startswith(f"<{delivery['id']}@"), implicit.mails[0]["Message-ID"])


@test
def what_a_receiver_does_not_take_comes_again_and_nothing_comes_twice():
    site, api = quick_site()
    authority = Authority()
    mailbox, hook = Mailbox(authority), Webhook(authority, answer=500)
    mailbox.refuse = 1
    webhook_channel(api, hook, authority)
    api.done("POST", "/alert-channels", {"name": "mail", "kind": "smtp", "server": "127.0.0.1", "port": mailbox.port,
                                         "username": "hub", "secret": "wrong", "from": "leeward@example.com",
                                         "to": ["ops@example.com"], "ca_certificate": authority.pem, "group_seconds": 0})
    filling(api, 1)
    alert = firing(api)
    wait_until(lambda: len(hook.requests) >= 2 and mailbox.refused_logins, "tries that are refused", 60)
    channel = api.done("GET", "/alert-channels/hook")
    check("500" in channel["last_error"], channel)
    site.kill("hub")
    hook.answer = 204
    wait_until(lambda: len(hook.taken()) == 1, "the webhook to be taken after the hub was killed", 120)
    check(len({r["headers"]["X-Leeward-Delivery"] for r in hook.requests}) == 1, "a try has another id")
    check(len({r["body"] for r in hook.requests}) == 1, "a try says something else")

    def correct():
        mail = api.done("GET", "/alert-channels/mail")
        return api.done("PATCH", "/alert-channels/mail", {"secret": "sesame"}, If_Match=f'"{mail["etag"]}"')
    wait_until(correct, "the hub to come back", 90)
    wait_until(lambda: mailbox.mails, "the mail, with the right password", 120)
    filling(api, 100)
    resolved(api, alert)
    wait_until(lambda: len(hook.taken()) == 2 and len(mailbox.mails) == 2, "word of the end", 120)
    told = [(a["id"], a["change"]) for r in hook.taken() for a in r["json"]["alerts"]]
    check(told == [(alert["id"], "raised"), (alert["id"], "resolved")], f"told: {told}")


@test
def a_hub_that_is_killed_while_it_sends_sends_again_under_the_same_id():
    site, api = quick_site()
    authority = Authority()
    hook = Webhook(authority)
    hook.hang.set()
    webhook_channel(api, hook, authority)
    filling(api, 1)
    check(hook.hanging.wait(90), "nothing was sent")
    site.kill("hub")
    hook.hang.clear()
    hook.release.set()
    wait_until(lambda: hook.taken(), "the message to come again", 120)
    check(len({r["headers"]["X-Leeward-Delivery"] for r in hook.requests}) == 1, "another id")
    wait_until(lambda: not api.done("GET", "/alert-deliveries?state=queued")["items"], "nothing to be left", 60)
    check(len(hook.taken()) == 1, "it was taken more than once")


@test
def the_weekly_report_comes_by_mail_and_from_the_api():
    site, api = quick_site()
    authority = Authority()
    mailbox = Mailbox(authority)
    status, problem = api.ask("POST", "/reports/weekly/send")
    check(status == 409 and "channel" in problem["detail"], f"{status} {problem}")
    api.done("POST", "/alert-channels", {"name": "week", "kind": "smtp", "server": "127.0.0.1", "port": mailbox.port,
                                         "username": "hub", "secret": "sesame", "from": "leeward@example.com",
                                         "to": ["boss@example.com"], "ca_certificate": authority.pem, "weekly_report": True})
    check(api.done("POST", "/reports/weekly/send") == {"queued": 1}, "it is not queued")
    wait_until(lambda: mailbox.mails, "the report", 60)
    mail = mailbox.mails[0]
    parts = {p.get_content_type(): p.get_content() for p in mail.walk() if not p.is_multipart()}
    check(mail["Subject"] == "[Leeward] the week" and set(parts) == {"text/plain", "text/html", "text/csv"}, (mail["Subject"], set(parts)))
    vault = api.done("GET", "/vaults")["items"][0]["name"]
    check(f"<td>{vault}</td>" in parts["text/html"], parts["text/html"])
    for kind, form in (("text/csv", "csv"), ("text/html", "html")):
        status, headers, text = api.raw("GET", f"/api/v1/reports/weekly?format={form}")
        check(status == 200 and headers["Content-Type"].startswith(kind), f"{status} {headers['Content-Type']}")
    check(site.cli_result("report", "weekly").stdout.startswith("machine,state,"), "leeward report weekly prints no CSV")
    rows = list(csv.reader(io.StringIO(parts["text/csv"])))
    check(rows[0][0] == "machine" and all(len(row) == len(rows[0]) for row in rows), rows)


@test
def a_text_has_its_values_beside_it_and_one_of_an_older_hub_gets_them():
    site, api = quick_site()
    filling(api, 1)
    alert = firing(api)
    vault = wait_until(lambda: (v := site.items("vault", "list")[0])["cause_code"] == "vault_filling" and v, "the vault to be told as filling", 60)
    for text, values in ((alert["cause"], alert["values"]), (vault["cause"], vault["cause_values"])):
        check(values["form"] == "full" and text == f"Its disk is {values['full_percent']} % full", f"{text}: {values}")
    problem = api.done("GET", "/overview")["problems"][0]
    check(problem["values"]["form"] == "full", f"the overview says {problem}")
    event = next(e for e in api.done("GET", "/events?sort=-seq")["items"] if e["code"] == "health_changed" and e["vault_id"] == vault["id"])
    check(event["values"]["finding"] == "vault_filling.full" and event["values"]["full_percent"] > 0, f"the event is {event}")
    site.sql("UPDATE vaults SET cause_values = '{}'; UPDATE alerts SET text_values = '{}', updated_at = now() - interval '1 hour'")
    wait_until(lambda: site.items("vault", "list")[0]["cause_values"].get("form") == "full", "the vault to get its values again", 60)
    wait_until(lambda: api.done("GET", f"/alerts/{alert['id']}")["values"].get("form") == "full", "the alert to get its values again", 60)


@test
def certificate_that_nobody_vouches_for_is_refused():
    site, api = quick_site()
    hook = Webhook(Authority())
    other = Authority()
    webhook_channel(api, hook, other)
    api.done("POST", "/alert-channels/hook/test")
    channel = wait_until(lambda: (lambda c: c if c["last_error"] else None)(api.done("GET", "/alert-channels/hook")),
                         "the refusal", 60)
    check("certificate" in channel["last_error"].lower(), channel["last_error"])
    check(not hook.requests, "it was sent all the same")
    for body, word in (({"name": "a", "kind": "webhook"}, "/url"), ({"name": "a", "kind": "smtp", "server": "x"}, "/from"),
                       ({"name": "a", "kind": "webhook", "url": "ftp://x/"}, "/url"),
                       ({"name": "a", "kind": "webhook", "url": "http://hooks.example.com/t0ken"}, "/url"),
                       ({"name": "a", "kind": "webhook", "url": "http://127.0.0.1.example.com/"}, "/url"),
                       ({"name": "a", "kind": "smtp", "server": "x", "from": "a@b\r\nBcc: c@d", "to": ["a@b"]}, "/from"),
                       ({"name": "a", "kind": "smtp", "server": "x", "from": "a@b.c", "to": ["a@b.c"], "username": "u",
                         "security": "none"}, "/security")):
        status, problem = api.ask("POST", "/alert-channels", body)
        check(status == 400 and problem["errors"][0]["pointer"] == word, f"{body}: {status} {problem}")
    refused = site.cli_result("channel", "create", "clear", "--hook", "http://hooks.example.com/t0ken")
    check(refused.returncode == 2 and "--security none" in refused.stderr, refused.stderr)
    site.cli("channel", "create", "clear", "--hook", "http://hooks.example.com/t0ken", "--security", "none", "--enabled", "no")
    site.cli("channel", "create", "here", "--hook", "http://127.0.0.1:9/hook", "--enabled", "no")
    site.cli("channel", "set", "here", "--hook", "http://[::1]:9/hook")


if __name__ == "__main__":
    main()
