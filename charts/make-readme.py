#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes leeward/README.md of leeward/values.yaml: what stands behind "# -- " tells what the key below it is.

    make-readme.py            says whether the README is right; exit status 1 if it is not
    make-readme.py --write    writes it
"""
import os
import re
import sys

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "leeward")
HEAD = """# Leeward on Kubernetes

Made of `values.yaml` by `charts/make-readme.py --write`; do not edit.

The chart runs the hub, process nodes and, if wanted, a vault. PostgreSQL is yours; its address is in a secret. Typically there are two
installations: nodes in a cluster at the source site (`hub.enabled=false`, `hub.address=...`), hub and vault at the recovery site
(`node.enabled=false`, `vault.enabled=true`). `ci/` has values files of these.

```
kubectl create secret generic leeward-database --from-literal=dsn='postgresql://leeward:...@db/leeward?sslmode=verify-full'
# one token for each node that there may ever be, under its pod's name; they stay in the secret, each is good for one enrolment
kubectl create secret generic leeward-nodes $(for i in 0 1; do
    echo --from-literal=leeward-node-$i=$(leeward enrol-token create --role node --name leeward-node-$i --expires 365d); done)
helm install leeward charts/leeward --set hub.database.existingSecret=leeward-database --set node.enrolment.existingSecret=leeward-nodes
helm test leeward
```

**Going.** A node that gets SIGTERM is not ready any more (`/readyz` says 503), refuses new streams, lets each agent go behind a whole change
set, forwards what it has spooled and ends, within `node.drainSeconds`. A rolling update does this with one node after the other. What is not
forwarded in time stays in the volume for the next start, and agents hold whatever no vault has committed: a node that is lost for good costs
recovery-point age and nothing else.

**Scaling.** The autoscaler looks at the processor and, through a custom metrics API (such as prometheus-adapter), at
`leeward_node_spool_used_ratio` of the pods.

**Pods** run as one unprivileged user with a read-only root file system, no capabilities, the runtime's seccomp filter and no service-account
token. Each component has its network policy. The hub's `/metrics` needs a token (`leeward token create`, scope `metrics:read`), the nodes' is
plain HTTP inside the cluster.

## Values

| key | default | what it is |
|---|---|---|
"""


def rows(lines):
    """(key, default, text) of each described key."""
    path, text = [], None
    for number, line in enumerate(lines, 1):
        said = re.match(r"^\s*# -- (.*)$", line)
        key = re.match(r"^( *)([A-Za-z]\w*):\s*(.*?)\s*$", line)
        if said:
            text = said.group(1)
        elif key:
            depth = len(key.group(1)) // 2
            path = path[:depth] + [key.group(2)]
            if text is not None:
                yield ".".join(path), key.group(3) or nested(lines, number), text
            text = None


def nested(lines, number):
    """What a key without a value on its line holds."""
    inner = []
    indent = len(lines[number - 1]) - len(lines[number - 1].lstrip())
    for line in lines[number:]:
        if not line.strip() or len(line) - len(line.lstrip()) <= indent:
            break
        inner.append(line.strip())
    return "{" + ", ".join(inner) + "}"


def readme():
    with open(os.path.join(HERE, "values.yaml")) as f:
        lines = f.read().split("\n")
    table = "".join(f"| `{key}` | `{default}` | {text} |\n" for key, default, text in rows(lines))
    return HEAD + table


def main():
    path = os.path.join(HERE, "README.md")
    if "--write" in sys.argv[1:]:
        with open(path, "w") as f:
            f.write(readme())
        return 0
    with open(path) as f:
        same = f.read() == readme()
    if not same:
        print("README.md is not what values.yaml says; run charts/make-readme.py --write")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
