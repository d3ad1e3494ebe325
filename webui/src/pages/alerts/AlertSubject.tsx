// SPDX-License-Identifier: Apache-2.0
//
// What an alert is about, and the way to it.
import { Link } from "@tanstack/react-router";

import type { Alert } from "../../api/queries";

export function AlertSubject({ alert }: { alert: Pick<Alert, "subject_name" | "machine_id" | "group_id"> }) {
    const { subject_name: name, machine_id: machineId, group_id: groupId } = alert;
    if (machineId) return <Link to="/machines/$machineId" params={{ machineId }} className="lw-link">{name}</Link>;
    return groupId ? <Link to="/groups" search={{ q: name }} className="lw-link">{name}</Link> : name;
}
