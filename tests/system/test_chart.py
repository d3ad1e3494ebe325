#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Helm chart: linted, rendered with several values files, held to the schemas of Kubernetes and to what Leeward promises there."""
import glob
import json
import os
import re
import sys
import venv

import harness
from harness import BIN, ROOT, Failure, check, fresh, main, run, test
from promtool import promtool

HERE = os.path.join(ROOT, "tests", "system", "charts")
CHART = os.path.join(ROOT, "charts", "leeward")
TOOLS = os.path.join(os.path.dirname(os.path.abspath(BIN)), "chart-tools")
VERSIONS = ["1.27", "1.34", "1.37"]
NEEDED = ["--set", "hub.database.existingSecret=db", "--set", "node.enrolment.existingSecret=tokens"]


def bring_up():
    """helm, and Python's validator of Kubernetes' schemas, in the build folder. This program goes on with that Python."""
    global helm, yaml, kubernetes_validate
    wanted = os.path.join(HERE, "requirements.txt")
    stamp = os.path.join(TOOLS, "requirements.txt")
    python = os.path.join(TOOLS, "venv", "bin", "python")
    with open(wanted) as f:
        text = f.read()
    if not os.path.exists(stamp) or open(stamp).read() != text:
        venv.create(os.path.join(TOOLS, "venv"), with_pip=True, clear=True)
        run(python, "-m", "pip", "install", "--quiet", "--requirement", wanted, timeout=600)
        with open(stamp, "w") as f:
            f.write(text)
    helm = run(os.path.join(HERE, "get-helm.sh"), TOOLS, timeout=1500).strip()
    if sys.prefix != os.path.join(TOOLS, "venv"):
        os.execv(python, [python, "-B", *sys.argv])
    import kubernetes_validate
    import yaml


def values_files():
    found = sorted(glob.glob(os.path.join(CHART, "ci", "*-values.yaml")))
    check(len(found) >= 4, f"only {found}")
    return found


def template(*options, kube="1.34", ok=(0,)):
    """What helm makes of the chart: a list of objects."""
    text = run(helm, "template", "leeward", CHART, "--namespace", "dr", "--kube-version", kube, *options, ok=ok)
    return [one for one in yaml.safe_load_all(text) if one]


def refused(*options):
    """Why helm does not render it."""
    result = harness.subprocess.run([helm, "template", "leeward", CHART, "--kube-version", "1.34", *options], capture_output=True,
                                    text=True, timeout=120)
    check(result.returncode != 0, f"rendered with {options}")
    return result.stderr


def rendered():
    """(name of the values file, its objects) of each."""
    for path in values_files():
        yield os.path.basename(path), template("--values", path)


def one(objects, kind, name):
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    check(len(found) == 1, f"{len(found)} objects {kind} {name}")
    return found[0]


def pods(objects):
    """(name, its metadata, pod spec) of each workload."""
    for o in objects:
        if o["kind"] in ("Deployment", "StatefulSet"):
            yield o["metadata"]["name"], o["spec"]["template"]["metadata"], o["spec"]["template"]["spec"]
        elif o["kind"] == "Pod":
            yield o["metadata"]["name"], o["metadata"], o["spec"]


def matches(selector, labels):
    return all(labels.get(k) == v for k, v in selector.items())


def keys_of(value, path=""):
    """The paths of all keys with a fixed name."""
    for key, inner in value.items():
        yield path + key
        if isinstance(inner, dict):
            yield from keys_of(inner, path + key + ".")


@test
def test_lint():
    for path in values_files():
        run(helm, "lint", "--strict", CHART, "--values", path)


@test
def test_schemas_of_kubernetes():
    """Each object is one that the oldest and the newest supported Kubernetes know, with no field that they do not."""
    seen = set()
    for path in values_files():
        for version in VERSIONS:
            for o in template("--values", path, kube=version):
                seen.add(o["kind"])
                if o["apiVersion"].startswith("monitoring.coreos.com/"):
                    continue
                try:
                    kubernetes_validate.validate(o, version, strict=True)
                except kubernetes_validate.ValidationError as problem:
                    raise Failure(f"{os.path.basename(path)}, {version}: {o['kind']} {o['metadata']['name']}: {problem.message}")
    check({"Deployment", "StatefulSet", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
           "ServiceMonitor", "PrometheusRule", "Pod", "PersistentVolumeClaim"} <= seen, f"only {seen} were rendered")


@test
def test_a_wrong_object_would_be_found():
    broken = one(template(*NEEDED), "StatefulSet", "leeward-node")
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    try:
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)
    except kubernetes_validate.ValidationError:
        return
    raise Failure("a field that Kubernetes does not know was not noticed")


@test
def test_pods_have_no_rights():
    count = 0
    for values, objects in rendered():
        for name, _, spec in pods(objects):
            where = f"{values}: {name}"
            count += 1
            check(spec["automountServiceAccountToken"] is False, f"{where} gets a service-account token")
            check(spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] >= 1000, f"{where} may be root")
            check(spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, f"{where} has no seccomp filter")
            check(not any(spec.get(k) for k in ("hostNetwork", "hostPID", "hostIPC")), f"{where} is in the host's namespaces")
            for c in spec["containers"] + spec.get("initContainers", []):
                security = c["securityContext"]
                check(security["readOnlyRootFilesystem"] is True, f"{where} can write to its root")
                check(security["allowPrivilegeEscalation"] is False, f"{where} may get privileges")
                check(security["capabilities"] == {"drop": ["ALL"]}, f"{where} has capabilities")
                check(c["resources"]["requests"]["cpu"] and c["resources"]["requests"]["memory"], f"{where} requests nothing")
                check(c["resources"]["limits"]["memory"], f"{where} has no limit of memory")
            check(not any("hostPath" in v for v in spec.get("volumes", [])), f"{where} mounts the host")
            for v in spec.get("volumes", []):
                if "secret" in v:
                    check(v["secret"]["defaultMode"] in (0o440, 0o400), f"{where}: everybody reads {v['name']}")
    check(count >= 8, f"only {count} pods")


@test
def test_what_is_written_to_is_a_volume():
    """The root is read-only: each daemon's data folder, and /tmp where it is used, must be mounted."""
    for _, objects in rendered():
        for name, _, spec in pods(objects):
            for c in spec["containers"]:
                data = [a.split("=", 1)[1] for a in c.get("args", []) if a.startswith("--data=")]
                mounts = {m["mountPath"]: m for m in c.get("volumeMounts", [])}
                for folder in data:
                    check(folder in mounts and not mounts[folder].get("readOnly"), f"{name} cannot write to {folder}")
                known = {v["name"] for v in spec.get("volumes", [])}
                for o in objects:
                    if o["kind"] == "StatefulSet" and o["metadata"]["name"] == name:
                        known |= {t["metadata"]["name"] for t in o["spec"]["volumeClaimTemplates"]}
                check({m["name"] for m in mounts.values()} <= known, f"{name} mounts what is no volume")


@test
def test_programs_know_their_options():
    """What the chart passes to a daemon is in that daemon's own table of options."""
    seen = set()
    for _, objects in rendered():
        for name, _, spec in pods(objects):
            for c in spec["containers"]:
                program = os.path.basename(c["command"][0])
                if not program.startswith("leeward-"):
                    continue
                table = run(os.path.join(BIN, program), "--help-markdown")
                known = set(re.findall(r"^\| `([\w-]+)` ", table, re.M))
                secret = set(re.findall(r"^\| `([\w-]+)` .*\(secret\)", table, re.M))
                for argument in c["args"]:
                    option = re.match(r"--([\w-]+)", argument).group(1)
                    check(option in known or option.removesuffix("-file") in secret, f"{program} has no option {option}")
                    check(option not in secret, f"{program}: {option} can be read by everybody")
                seen.add(program)
    check(seen == {"leeward-hub", "leeward-node", "leeward-vault"}, f"only {seen}")


@test
def test_selectors_and_ports():
    """Services, budgets, policies and monitors select pods that exist, and name ports that those have."""
    for values, objects in rendered():
        all_pods = list(pods(objects))
        for o in objects:
            where = f"{values}: {o['kind']} {o['metadata']['name']}"
            spec = o.get("spec", {})
            if o["kind"] in ("Deployment", "StatefulSet"):
                check(matches(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]), f"{where} does not select its own pods")
            if o["kind"] == "Service":
                selector = {k: v for k, v in spec["selector"].items() if k != "statefulset.kubernetes.io/pod-name"}
                chosen = [p for p in all_pods if matches(selector, p[1]["labels"])]
                check(len(chosen) == 1, f"{where} selects {[p[0] for p in chosen]}")
                names = {port["name"] for c in chosen[0][2]["containers"] for port in c.get("ports", [])}
                check({p["targetPort"] for p in spec["ports"]} <= names, f"{where} points at no port")
            if o["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
                labels = (spec.get("selector") or spec["podSelector"])["matchLabels"]
                check(any(matches(labels, p[1]["labels"]) for p in all_pods), f"{where} selects nothing")
            if o["kind"] == "ServiceMonitor":
                chosen = [s for s in objects if s["kind"] == "Service" and matches(spec["selector"]["matchLabels"], s["metadata"]["labels"])]
                ports = {p["name"] for s in chosen for p in s["spec"]["ports"]}
                check({e["port"] for e in spec["endpoints"]} <= ports, f"{where} scrapes no port")
            if o["kind"] == "HorizontalPodAutoscaler":
                target = spec["scaleTargetRef"]
                check("replicas" not in one(objects, target["kind"], target["name"])["spec"], f"{where} and the chart both set the replicas")


@test
def test_a_node_goes_in_peace():
    """Time to drain within the grace period, probes that say so, one node at a time, a budget that a broken node does not block."""
    for drain in (1, 45, 600):
        objects = template(*NEEDED, "--set", f"node.drainSeconds={drain}")
        node = one(objects, "StatefulSet", "leeward-node")
        spec = node["spec"]["template"]["spec"]
        container = spec["containers"][0]
        check(f"--drain-time={drain}s" in container["args"], "the node is not told how long it may take")
        check(spec["terminationGracePeriodSeconds"] >= drain + 10, "it is killed before it has drained")
        check(container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}, "not asked whether it is ready")
        check(container["livenessProbe"]["httpGet"]["path"] == "/healthz", "not asked whether it is alive")
        check(node["spec"]["updateStrategy"]["type"] == "RollingUpdate" and node["spec"]["minReadySeconds"] > 0, "all at once")
    budget = one(objects, "PodDisruptionBudget", "leeward-node")["spec"]
    check(budget["maxUnavailable"] == 1 and budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow", f"the budget is {budget}")
    spread = spec["topologySpreadConstraints"]
    check({s["topologyKey"] for s in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}, "not spread")


@test
def test_hub_updates_without_a_gap_when_it_can():
    """With the CA in a secret a new hub is ready before an old one goes; with the CA in a volume only one can run."""
    objects = template("--values", os.path.join(CHART, "ci", "recovery-site-values.yaml"))
    hub = one(objects, "Deployment", "leeward-hub")["spec"]
    check(hub["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}, f"{hub['strategy']}")
    check(one(objects, "PodDisruptionBudget", "leeward-hub")["spec"]["maxUnavailable"] == 1, "no budget")
    mounts = {m["mountPath"]: m for m in hub["template"]["spec"]["containers"][0]["volumeMounts"]}
    check(mounts["/var/lib/leeward/hub/ca"]["readOnly"], "the CA can be written to")
    objects = template(*NEEDED)
    check(one(objects, "Deployment", "leeward-hub")["spec"]["strategy"] == {"type": "Recreate"}, "two hubs on one volume")
    check(one(objects, "PersistentVolumeClaim", "leeward-hub")["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", "the CA goes with the release")


@test
def test_autoscaling():
    objects = template("--values", os.path.join(CHART, "ci", "source-site-values.yaml"))
    scaler = one(objects, "HorizontalPodAutoscaler", "leeward-node")["spec"]
    metrics = {m["type"]: m for m in scaler["metrics"]}
    check(metrics["Resource"]["resource"]["name"] == "cpu", "does not look at the processor")
    check(metrics["Pods"]["pods"] == {"metric": {"name": "leeward_node_spool_used_ratio"}, "target": {"type": "AverageValue", "averageValue": "400m"}},
          f"looks at {metrics['Pods']}")
    check(scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] > scaler["behavior"]["scaleUp"]["stabilizationWindowSeconds"], "as quickly down as up")
    services = [o for o in objects if o["kind"] == "Service" and o["spec"].get("type") == "LoadBalancer"]
    check(len(services) == scaler["maxReplicas"], "not every pod that there may be has a service")
    off = template("--values", os.path.join(CHART, "ci", "source-site-values.yaml"), "--set", "node.autoscaling.spoolPercent=0")
    check(len(one(off, "HorizontalPodAutoscaler", "leeward-node")["spec"]["metrics"]) == 1, "the spool is looked at all the same")


@test
def test_tokens_and_passwords_come_from_secrets_only():
    for values, objects in rendered():
        check(not any(o["kind"] in ("Secret", "ConfigMap") for o in objects), f"{values}: the chart makes a secret")
        text = json.dumps(objects)
        check("lwe_" not in text and "lwt_" not in text and "postgresql://" not in text, f"{values}: a secret in the open")
    node = one(template(*NEEDED), "StatefulSet", "leeward-node")["spec"]["template"]["spec"]["containers"][0]
    check("--token-file=/run/secrets/leeward/enrolment/$(POD_NAME)" in node["args"], "a pod does not take its own token")


@test
def test_network_policies():
    """Each component has one, for both ways; from outside only the named networks come in, and only to the ports of Leeward."""
    objects = template("--values", os.path.join(CHART, "ci", "source-site-values.yaml"))
    rules = one(objects, "NetworkPolicy", "leeward-node")["spec"]
    check(rules["policyTypes"] == ["Ingress", "Egress"], "not for both ways")
    data = next(r for r in rules["ingress"] if r["ports"][0]["port"] == "data")
    check([f["ipBlock"]["cidr"] for f in data["from"] if "ipBlock" in f] == ["10.20.0.0/16", "192.168.7.0/24"], f"lets in {data['from']}")
    out = {p["port"] for r in rules["egress"] for p in r["ports"]}
    check(out == {53, 9442, 9444}, f"a node may connect to {out}")
    objects = template("--values", os.path.join(CHART, "ci", "recovery-site-values.yaml"))
    for role, ports in (("hub", {53, 5432, 25, 443, 22}), ("vault", {53, 9442, 9444, 9000})):
        out = {p["port"] for r in one(objects, "NetworkPolicy", f"leeward-{role}")["spec"]["egress"] for p in r["ports"]}
        check(out == ports, f"the {role} may connect to {out}")
    for values, objects in rendered():
        if "plain" in values:
            check(not any(o["kind"] == "NetworkPolicy" for o in objects), "there though turned off")
            continue
        for name, _, _ in pods(objects):
            if not name.endswith("test-ready"):
                one(objects, "NetworkPolicy", name)


# Alert -> series that raise it, series that do not, and for how long they stay.
RAISED_BY = {
    "LeewardHubDown": ([], ['leeward_build_info{version="1"} 1'], 2),
    "LeewardRecoveryPointTooOld": (['leeward_machine_rpo_seconds{machine="m", name="db"} 301'], ['leeward_machine_rpo_seconds{machine="m", name="db"} 299'], 1),
    "LeewardAgentSilent": (['leeward_machine_online{machine="m", name="db"} 0', 'leeward_machine_protected{machine="m"} 1'],
                           ['leeward_machine_online{machine="m", name="db"} 0', 'leeward_machine_protected{machine="m"} 0'], 5),
    "LeewardSpoolFilling": (['leeward_node_spool_used_ratio{pod="n-0"} 0.81'], ['leeward_node_spool_used_ratio{pod="n-0"} 0.79'], 5),
    "LeewardSpoolDiskFull": (['leeward_node_spool_disk_full{pod="n-0"} 1', 'leeward_node_spool_used_ratio{pod="n-0"} 0.1'],
                             ['leeward_node_spool_disk_full{pod="n-0"} 0'], 1),
    "LeewardVaultUnreachable": (['leeward_node_machines_without_vault{pod="n-0"} 3'], ['leeward_node_machines_without_vault{pod="n-0"} 0'], 5),
    "LeewardNodeNotReady": (['leeward_node_ready{pod="n-0"} 0', 'leeward_node_draining{pod="n-0"} 0'],
                            ['leeward_node_ready{pod="n-0"} 0', 'leeward_node_draining{pod="n-0"} 1'], 10),
}


def alerts(values):
    groups = one(template("--values", os.path.join(CHART, "ci", values)), "PrometheusRule", "leeward")["spec"]["groups"]
    return {rule["alert"]: rule for rule in groups[0]["rules"]}, {"groups": groups}


@test
def test_alerts_say_what_is_wrong_and_where_to_read_on():
    """Names of metrics are held to what hub and node really have in test_metrics.py."""
    source, _ = alerts("source-site-values.yaml")
    recovery, _ = alerts("recovery-site-values.yaml")
    check(set(recovery) == set(RAISED_BY), f"other alerts: {set(recovery) ^ set(RAISED_BY)}")
    check(set(source) == set(RAISED_BY) - {"LeewardHubDown"}, "a hub that is not scraped would always count as down")
    check(source["LeewardRecoveryPointTooOld"]["expr"] == "leeward_machine_rpo_seconds > 60", "rpoSeconds has no effect")
    for rule in [*source.values(), *recovery.values()]:
        check(rule["annotations"]["summary"] and rule["annotations"]["description"] and rule["labels"]["severity"], f"{rule['alert']} says too little")
    for rule in source.values():
        check(os.path.exists(os.path.join(ROOT, rule["annotations"]["runbook_url"])), f"{rule['alert']}: no {rule['annotations']['runbook_url']}")
    url = recovery["LeewardSpoolDiskFull"]["annotations"]["runbook_url"]
    check(url == "https://docs.example.com/leeward/runbooks/spool_filling.md", f"the runbook is at {url}")


@test
def test_alerts_are_raised_by_what_they_are_for():
    """Prometheus' own evaluation of what is rendered: each alert both ways, at its time and not before."""
    _, groups = alerts("recovery-site-values.yaml")
    rules = fresh("rules.yml")
    with open(rules, "w") as f:
        yaml.safe_dump(groups, f)
    promtool("check", "rules", rules)

    def case(alert, series, seconds, fires):
        asked = {"expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})', "eval_time": f"{seconds}s",
                 "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}
        return {"interval": "30s", "input_series": [{"series": s.rsplit(" ", 1)[0], "values": s.rsplit(" ", 1)[1] + "x60"} for s in series],
                "promql_expr_test": [asked]}
    cases = []
    for alert, (raising, calm, minutes) in RAISED_BY.items():
        cases += [case(alert, raising, 60 * minutes + 60, True), case(alert, raising, 60 * minutes - 30, False), case(alert, calm, 60 * minutes + 60, False)]
    path = fresh("rules-test.yml")
    with open(path, "w") as f:
        yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "30s", "tests": cases}, f)
    promtool("test", "rules", path)


@test
def test_bad_values_are_refused_with_a_reason():
    for options, words in [
            (["--set", "node.enrolment.existingSecret=tokens"], "hub.database.existingSecret is required"),
            (["--set", "hub.database.existingSecret=db"], "node.enrolment.existingSecret is required"),
            ([*NEEDED, "--set", "vault.enabled=true"], "vault.enrolment.existingSecret is required"),
            ([*NEEDED, "--set", "hub.enabled=false"], "hub.address is required"),
            ([*NEEDED, "--set", "hub.replicas=2"], "needs hub.ca.existingSecret"),
            ([*NEEDED, "--set", "node.autoscaling.enabled=true,node.autoscaling.minReplicas=9"], "maxReplicas is below minReplicas"),
            ([*NEEDED, "--set", "node.replica=3"], "replica"),
            ([*NEEDED, "--set", "node.drainSeconds=soon"], "drainSeconds"),
            ([*NEEDED, "--set", "logLevel=loud"], "logLevel"),
            ([*NEEDED, "--set", "hub.address=no-port"], "address"),
            ([*NEEDED, "--set", "node.spool.limit=18Gi"], "limit")]:
        said = refused(*options)
        check(words in said, f"{options}: {said}")


@test
def test_schema_and_readme_know_every_value():
    with open(os.path.join(CHART, "values.yaml")) as f:
        values = yaml.safe_load(f)
    with open(os.path.join(CHART, "values.schema.json")) as f:
        schema = json.load(f)

    def of_schema(part, path=""):
        for key, inner in part.get("properties", {}).items():
            yield path + key
            yield from of_schema(inner, path + key + ".")
    free = {"global", "networkPolicy.metricsFrom.podSelector", "networkPolicy.metricsFrom.ipBlock"}
    in_schema = {k for k in of_schema(schema) if k not in free and not re.search(r"\.(requests|limits|claims)$", k)}
    in_values = {k for k in keys_of(values) if not re.search(r"\.(requests|limits)(\.|$)", k)}
    check(in_schema == in_values, f"in one of both only: {sorted(in_schema ^ in_values)}")
    run(sys.executable, os.path.join(ROOT, "charts", "make-readme.py"))
    with open(os.path.join(CHART, "README.md")) as f:
        readme = set(re.findall(r"^\| `([\w.]+)` \|", f.read(), re.M))
    leaves = {k for k in in_values if not any(other.startswith(k + ".") for other in in_values)}
    missing = {k for k in leaves if not any(k == r or k.startswith(r + ".") for r in readme)}
    check(not missing, f"not described: {sorted(missing)}")


bring_up()
main()
