// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Card, CardBody, CardHeader, CardTitle } from "@patternfly/react-core/dist/dynamic/components/Card";
import { DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm } from "@patternfly/react-core/dist/dynamic/components/DescriptionList";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { MachineSettings } from "./MachineSettings";

function useFacts(machine: Machine): [string, ReactNode][] {
    const { t } = useTranslation("machine");
    const { span, bytes, rate, moment, number } = useFormat();
    const or = (text: string | null) => text || "–";
    return [
        [t("fact.rpo"), machine.rpo_seconds === null ? "–" : span(machine.rpo_seconds)],
        [t("fact.lastPoint"), machine.last_point_at ? `${number(machine.last_point_sequence ?? 0)} · ${moment(machine.last_point_at)}` : "–"],
        [t("fact.churn"), rate(machine.changed_bytes_per_second)],
        [t("fact.sent"), rate(machine.sent_bytes_per_second)],
        [t("fact.backlog"), bytes(machine.backlog_bytes)],
        [t("fact.throughput"), rate(machine.throughput_bytes_per_second)],
        [t("fact.remaining"), machine.remaining_seconds > 0 ? span(machine.remaining_seconds) : "–"],
        [t("fact.slowedBy"), or(machine.slowed_by)],
        [t("fact.window"), span(machine.window_seconds)],
        [t("fact.freeze"), machine.freeze_seconds > 0 ? span(machine.freeze_seconds) : t("fact.noFreeze")],
        [t("fact.policy"), or(machine.policy_name)],
        [t("fact.site"), or(machine.site_name)],
        [t("fact.node"), or(machine.node_name)],
        [t("fact.vault"), or(machine.vault_name)],
        [t("fact.agent"), `${or(machine.agent_software)} · ${or(machine.agent_state)}`],
        [t("fact.kernel"), or(machine.kernel)],
        [t("fact.hardware"), t("fact.hardwareText", { cpus: machine.cpus, memory: bytes(machine.memory_bytes), firmware: or(machine.firmware) })],
        [t("fact.addresses"), or(machine.addresses.join(", "))],
        [t("fact.generation"), number(machine.generation)],
        [t("fact.seen"), machine.last_seen_at ? moment(machine.last_seen_at) : "–"],
    ];
}

export function MachineFacts({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    const facts = useFacts(machine);
    const mayAct = useMay("operator");
    const [editing, setEditing] = useState(false);
    return (
        <Card className="lw-above" component="section">
            <CardHeader actions={{ actions: mayAct && <Button id="edit-machine" variant="link" isInline onClick={() => setEditing(true)}>{t("settings.button")}</Button> }}>
                <CardTitle component="h2">{t("facts")}</CardTitle>
            </CardHeader>
            <CardBody>
                <DescriptionList columnModifier={{ default: "1Col", md: "2Col", xl: "3Col" }} isCompact>
                    {facts.map(([term, text]) => (
                        <DescriptionListGroup key={term}>
                            <DescriptionListTerm>{term}</DescriptionListTerm>
                            <DescriptionListDescription className="lw-number">{text}</DescriptionListDescription>
                        </DescriptionListGroup>
                    ))}
                </DescriptionList>
            </CardBody>
            {editing && <MachineSettings machine={machine} onClose={() => setEditing(false)} />}
        </Card>
    );
}
