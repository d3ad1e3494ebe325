#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""/metrics of a hub that protects a disk, the rules and the dashboard that come with it, and the pages that alerts point to."""
import json
import os
import re
import urllib.request

from api_client import Api
from harness import MIB, ROOT, Disk, Failure, Site, check, fresh, free_port_base, main, test, wait_until
from promtool import promtool

MONITORING = os.path.join(ROOT, "monitoring")
CHART = os.path.join(ROOT, "charts", "leeward", "templates")
RUNBOOKS = os.path.join(ROOT, "docs", "runbooks")


def text_of(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


def rule_codes():
    return re.findall(r'\.code = "(\w+)"', text_of(ROOT, "hub", "core", "alert.c"))


@test
def metrics_are_what_promtool_and_the_rules_want():
    disk = Disk(48 * MIB)
    disk.make_fs("ext4")
    probes = f"127.0.0.1:{free_port_base(1)}"
    site = Site(daemon_options={"node": ["--probe-listen", probes]})
    site.protect(disk)
    api = Api(site.env)

    def metrics():
        status, headers, text = api.raw("GET", "/metrics")
        check(status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), f"{status} {headers}")
        return text.decode()
    # The hub looks at its own certificate, and at how the others are, every few seconds.
    def complete():
        text = metrics()
        check(re.search(r"^leeward_machine_points_total\{.*\} [1-9]", text, re.M), "no points")
        for line in ('leeward_jobs{status="running"} ', 'leeward_sessions{role="agent"} 1', "leeward_vault_accepting{",
                     'leeward_certificate_expiry_timestamp_seconds{role="hub"} ', "leeward_node_received_bytes_total{"):
            check(line in text, f"no {line}")
        return text
    text = wait_until(complete, "metrics of a machine with points and of everything around it", 90)
    promtool("check", "metrics", stdin=text)
    families = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    name = re.escape(site.machine()["name"])
    for family in ("rpo_seconds", "rpo_target_seconds", "online", "protected", "clock_skew_seconds", "damaged_places", "health",
                   "sent_bytes_total", "changed_bytes_total", "last_point_timestamp_seconds", "backlog_bytes"):
        check(re.search(rf'^leeward_machine_{family}\{{machine="[0-9a-f-]+",name="{name}"\}} ', text, re.M), f"no {family}:\n{text[-3000:]}")
    for file in ("leeward-rules.yml", "leeward-dashboard.json"):
        used = set(re.findall(r"\bleeward_\w+", text_of(MONITORING, file)))
        base = {re.sub(r"_(bucket|sum|count)$", "", u) if u not in families else u for u in used}
        check(len(used) > 10 and base <= families, f"{file} uses what /metrics does not have: {base - families}")
    dashboard_uses_labels_that_are_there(text)
    with urllib.request.urlopen(f"http://{probes}/metrics", timeout=60) as answer:
        of_node = answer.read().decode()
    promtool("check", "metrics", stdin=of_node)
    chart_uses_what_is_there(text, of_node)


def chart_uses_what_is_there(of_hub, of_node):
    """The chart's alerts, and what its autoscaler looks at: in Kubernetes the node's figures are read from the node itself."""
    families = {name for text in (of_hub, of_node) for name in re.findall(r"^# TYPE (\w+) ", text, re.M)}
    rules, node = text_of(CHART, "monitoring.yaml"), text_of(CHART, "node.yaml")
    used = set(re.findall(r"\bleeward_\w+", rules + node))
    check(len(used) > 6 and used <= families, f"the chart uses what /metrics does not have: {used - families}")
    scaled_by = set(re.findall(r"metric:\s+name: (\w+)", node))
    check(scaled_by and scaled_by <= set(re.findall(r"^(leeward_\w+) ", of_node, re.M)), f"nodes do not have {scaled_by}, or have it of each machine")
    for expression, summary in re.findall(r"expr: (.*)\n(?:.*\n){3}\s+summary: (.*)", rules):
        there = set().union(*(labels_in(of_hub + of_node).get(n, set()) for n in re.findall(r"leeward_\w+", expression)))
        shown = set(re.findall(r"\$labels\.(\w+)", summary))
        check(shown <= there | {"pod"}, f"{expression} has the labels {there}, and {summary} shows {shown}")  # pod: the operator adds it


def queries():
    """Title of the panel, PromQL with a value for each of the dashboard's variables, and legend."""
    board = json.loads(text_of(MONITORING, "leeward-dashboard.json"))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$machine", ".*"), target.get("legendFormat", "")


def labels_in(text):
    """Labels of each family of /metrics, also by the names of a histogram's series."""
    found = {}
    for name, labels in re.findall(r"^(leeward_\w+)(?:\{(.*)\})? ", text, re.M):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def dashboard_uses_labels_that_are_there(text):
    there = labels_in(text)
    # Families of which nothing is there yet (alerts, a forecast, requests) tell their labels in the rules' tests.
    for name, labels in labels_in(re.sub(r"^\s*- \{series: '(.*?)', .*$", r"\1 0", text_of(MONITORING, "leeward-rules-test.yml"), flags=re.M)).items():
        there.setdefault(name, labels)
    for title, query, legend in queries():
        check("$" not in query, f"{title}: a variable that the dashboard does not have: {query}")
        for name, matchers in re.findall(r"(leeward_\w+)\{([^}]*)\}", query):
            wanted = set(re.findall(r"(\w+)\s*[=!]", matchers))
            check(wanted <= there.get(name, set()), f"{title}: {name} has the labels {there.get(name)}, not {wanted}")
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        names = re.findall(r"leeward_\w+", query)
        check(shown <= set().union(*(there.get(n, set()) for n in names)), f"{title}: the legend shows {shown}, which {names} do not have")


@test
def every_query_of_the_dashboard_is_promql():
    """promtool reads each as a recording rule; one that is none is refused with its place."""
    asked = list(queries())
    check(len(asked) > 12, f"only {len(asked)} queries")

    def rules(expressions):
        path = fresh("queries.yml")
        with open(path, "w") as f:
            json.dump({"groups": [{"name": "g", "rules": [{"record": f"q:q{i}", "expr": e} for i, e in enumerate(expressions)]}]}, f)
        return path
    said = promtool("check", "rules", rules(query for _, query, _ in asked))
    check(f"{len(asked)} rules found" in said, said)
    try:
        promtool("check", "rules", rules(["sum by (leeward_alerts"]))
    except Failure:
        return
    check(False, "promtool takes what is no PromQL")


@test
def rules_are_right_and_raise_what_they_should():
    promtool("check", "rules", os.path.join(MONITORING, "leeward-rules.yml"))
    promtool("test", "rules", os.path.join(MONITORING, "leeward-rules-test.yml"))
    rules, tests = text_of(MONITORING, "leeward-rules.yml"), text_of(MONITORING, "leeward-rules-test.yml")
    for alert in re.findall(r"- alert: (\w+)", rules):
        check(tests.count(f"alertname: {alert}\n") >= 1 and f"alertname: {alert}," in tests, f"{alert} is not tested both ways")
    for page in re.findall(r"runbook: (\S+)", rules):
        check(os.path.exists(os.path.join(ROOT, page)), f"{page} is not there")
    board = json.loads(text_of(MONITORING, "leeward-dashboard.json"))
    check(len({p["id"] for p in board["panels"]}) == len(board["panels"]) > 10, "panels share an id")


@test
def each_alert_has_a_page():
    codes = rule_codes()
    check(len(codes) > 15, f"only {codes}")
    for code in codes:
        page = text_of(RUNBOOKS, code + ".md")
        check(f"`{code}`" in page and all(f"## {part}" in page for part in ("Meaning", "Impact", "Diagnosis", "Mitigation")), f"{code}: {page}")
    pages = {name.removesuffix(".md") for name in os.listdir(RUNBOOKS)}
    check(pages == {*codes, "hub_down"}, f"pages of no alert: {pages - {*codes, 'hub_down'}}")


if __name__ == "__main__":
    main()
