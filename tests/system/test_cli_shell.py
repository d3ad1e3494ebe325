#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the command gives to shells and people beside its answers: completion in real shells, manual pages, corrections, requests of
one's own, and the rarer verbs."""
import json
import os
import subprocess

from harness import BIN, ROOT, Site, check, fresh, main, run, test, wait_until


def site_with_hub():
    site = Site("--no-agent", wait=False)
    wait_until(lambda: os.path.exists(os.path.join(site.data, "cli.env")), "the hub", 90)
    site.load_env()
    site.env["PATH"] = BIN + ":" + os.environ["PATH"]
    return site


def bash_offers(site, *words):
    """What bash completes for the last word."""
    script = "\n".join(["source <(leeward completion bash)", "COMP_WORDS=(leeward " + " ".join(f"'{w}'" for w in words) + ")",
                        f"COMP_CWORD={len(words)}", "_leeward", 'printf "%s\\n" "${COMPREPLY[@]}"'])
    out = subprocess.run(["bash", "--norc", "-c", script], env=site.env, capture_output=True, text=True, timeout=60)
    check(out.returncode == 0, f"bash: {out.stderr}")
    return out.stdout.split()


def zsh_offers(site, *words):
    script = "\n".join(["compdef() { : }", '_describe() { print -l -- "${(@P)2}" }', "_files() { print FILES }",
                        "source <(leeward completion zsh)", "words=(leeward " + " ".join(f"'{w}'" for w in words) + ")",
                        f"CURRENT={len(words) + 1}", "_leeward"])
    out = subprocess.run(["zsh", "-f", "-c", script], env=site.env, capture_output=True, text=True, timeout=60)
    check(out.returncode in (0, 1), f"zsh: {out.stderr}")
    return [line.split(":", 1)[0] for line in out.stdout.splitlines()]


@test
def shells_complete_words_options_values_and_names():
    site = site_with_hub()
    site.cli("policy", "create", "nightly")
    site.cli("site", "create", "harbour")
    site.cli("channel", "create", "pager", "--hook", "http://127.0.0.1:1/")
    for offers in (bash_offers, zsh_offers):
        for words, wanted, unwanted in (
                (("mach",), "machine", "node"),
                (("machine", "prot"), "protect", "show"),
                (("machine", "list", "--st"), "--state", "--url"),
                (("machine", "list", "-o", ""), "json", "nightly"),
                (("policy", "show", ""), "nightly", "harbour"),
                (("policy", "show", "night"), "nightly", "default"),
                (("machine", "set", "web1", "--policy", ""), "nightly", "harbour"),
                (("machine", "set", "web1", "--site", ""), "harbour", "nightly"),
                (("settings", "set", "alert_s"), "alert_silent_seconds", "site_name"),
                (("user", "show", ""), "admin", "nightly"),
                (("enrol-token", "create", ""), "vault", "nightly"),
                (("policy", "list", "--s"), "--sort", "--state"),
                (("help", "machine", "sh"), "show", "protect"),
                (("channel", "create", "pag"), "", "pager"),
                (("channel", "test", ""), "pager", "nightly"),
                (("completion", ""), "zsh", "nightly")):
            found = offers(site, *words)
            check((wanted in found or not wanted) and unwanted not in found, f"{offers.__name__} {words}: {found}")
    site.env["LEEWARD_URL"] = "https://127.0.0.1:1"
    check(bash_offers(site, "policy", "show", "") == [], "a hub that is away is not silence")


@test
def profiles_keep_several_hubs_apart():
    site = site_with_hub()
    token, url, ca = fresh("token"), site.env["LEEWARD_URL"], site.env["LEEWARD_CA"]
    with open(token, "w") as f:
        f.write(site.env["LEEWARD_TOKEN"])
    for name in ("LEEWARD_URL", "LEEWARD_TOKEN", "LEEWARD_CA"):
        del site.env[name]
    for profile in ("here", "there"):
        result = site.cli_result("login", url, "--token-file", token, "--ca", ca, "--profile", profile)
        check(result.returncode == 0, result.stderr)
    check({p["name"]: p["current"] for p in site.items("profile", "list")} == {"here": False, "there": True}, "profiles are listed wrongly")
    check(site.cli_result("profile", "use", "here").returncode == 0 and site.cli("status")["ready"], "the profile does not lead to the hub")
    unknown = site.cli_result("status", "--profile", "nowhere")
    check(unknown.returncode == 3 and "profile list" in unknown.stderr, f"{unknown.returncode} {unknown.stderr}")
    site.env["LEEWARD_PROFILE"] = "nowhere"
    check(site.cli_result("status").returncode == 3, "LEEWARD_PROFILE is not heard")
    del site.env["LEEWARD_PROFILE"]
    check(site.cli_result("profile", "remove", "here").returncode == 0, "a profile cannot be removed")
    check([p["name"] for p in site.items("profile", "list")] == ["there"], "the profile is still there")
    check(site.cli_result("profile", "use", "here").returncode == 3, "a removed profile can be used")
    check(site.cli_result("status").returncode == 2, "a removed current profile is still used")
    stored = os.path.join(site.env["XDG_CONFIG_HOME"], "leeward", "config.json")
    check(os.stat(stored).st_mode & 0o777 == 0o600, "others can read the tokens")


@test
def manual_pages_are_clean_and_tell_of_every_command():
    folder = fresh("man")
    os.mkdir(folder)
    run(os.path.join(BIN, "leeward"), "help", "--man", folder)
    pages = sorted(os.listdir(folder))
    check("leeward.1" in pages and "leeward-machine.1" in pages, f"pages: {pages}")
    text = ""
    for page in pages:
        path = os.path.join(folder, page)
        result = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-P-cbou", path], capture_output=True, text=True, timeout=60)
        check(result.returncode == 0 and not result.stderr, f"{page}: {result.stderr[:400]}")
        text += " ".join(result.stdout.split())
    reference = run(os.path.join(BIN, "leeward"), "help", "--markdown")
    commands = [line[3:] for line in reference.splitlines() if line.startswith("## leeward ")]
    check(len(commands) > 60, "the reference is short")
    missing = [c for c in commands if c not in text]
    check(not missing, f"not in any page: {missing}")


@test
def what_was_mistyped_is_corrected():
    for words, meant in ((["machien", "list"], "machine list"), (["machine", "lst"], "machine list"), (["polcy", "show", "x"], "policy show"),
                         (["machine", "list", "--staet", "x"], "--state"), (["stauts"], "status")):
        result = subprocess.run([os.path.join(BIN, "leeward"), *words], capture_output=True, text=True, timeout=30)
        check(result.returncode == 2 and "Did you mean" in result.stderr and meant in result.stderr, f"{words}: {result.stderr}")
    result = subprocess.run([os.path.join(BIN, "leeward"), "xylophone"], capture_output=True, text=True, timeout=30)
    check(result.returncode == 2 and "Did you mean" not in result.stderr, result.stderr)


@test
def any_request_can_be_sent_and_rare_verbs_work():
    site = site_with_hub()
    made = json.loads(site.cli_result("api", "POST", "/sites", "--data", '{"name": "quay"}').stdout)
    check(made["name"] == "quay", str(made))
    stale = site.cli_result("api", "PATCH", f"/api/v1/sites/{made['id']}", "--data", '{"description": "x"}', "--if-match", "999")
    check(stale.returncode == 4, f"a stale version was taken: {stale.returncode} {stale.stderr}")
    check(site.cli_result("api", "FETCH", "/sites").returncode == 2, "a method that is none")
    check(site.cli("site", "set", "quay", "--description", "by the water")["description"] == "by the water", "the site did not change")
    wait_until(lambda: site.items("node", "list") and site.items("vault", "list"), "node and vault", 60)
    node = site.items("node", "list")[0]["name"]
    check(site.cli("node", "drain", node)["drain"] is True, "not drained")
    check(site.cli("node", "undrain", node)["drain"] is False, "still drained")
    check(site.cli("vault", "set", site.items("vault", "list")[0]["name"], "--site", "quay")["site_name"] == "quay", "the vault is elsewhere")
    check(site.cli("settings", "set", "site_name", "Harbour")["site_name"] == "Harbour", "the setting did not change")
    check(site.cli("settings", "show")["site_name"] == "Harbour", "the setting is not stored")
    check(site.cli("settings", "set", "site_name", "42")["site_name"] == "42", "a text that looks like a number is none")
    check(set(site.cli("settings", "reset", "site_name")) == {"etag"}, "the setting is not at its default")
    user = site.cli("user", "create", "kim", "--role", "operator")
    check(len(user["password"]) >= 12, "no first password")
    check([u["role"] for u in site.items("user", "list") if u["name"] == "kim"] == ["operator"], "the user is not listed")
    check(site.cli("user", "set", "kim", "--role", "viewer", "--display-name", "Kim")["role"] == "viewer", "the role is as before")
    check(len(site.cli_result("user", "set", "kim", "--reset-password").stdout.strip()) >= 12, "no new first password alone on its line")
    check(site.cli_result("user", "set", "kim", "--disabled", "perhaps").returncode == 2, "disabled perhaps")
    check(site.cli("audit", "verify")["whole"] is True, "the audit log is broken")
    unused = site.cli("enrol-token", "create", "agent")["id"]
    check(site.cli_result("enrol-token", "revoke", unused).returncode == 0 and
          [t["revoked_at"] is not None for t in site.items("enrol-token", "list") if t["id"] == unused] == [True], "the enrolment token is not revoked")
    site.cli("user", "delete", "kim")
    check(site.cli_result("user", "show", "kim").returncode == 3, "the user is still there")
    check(any(r["object_kind"] for r in site.items("audit", "list", "--limit", "5")), "the audit log is empty")


if __name__ == "__main__":
    run(os.path.join(ROOT, "cmake", "install-packages.sh"), os.path.join(ROOT, "tests", "system", "shells", "packages.txt"), timeout=600)
    main()
