// SPDX-License-Identifier: Apache-2.0
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table/dist/dynamic/components/Table";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";

import { type Machine, machineEventsQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { EventText } from "../../words/EventText";

const colors = { info: "blue", warning: "orange", error: "red" } as const;

export function MachineEvents({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    const { t: common } = useTranslation();
    const { moment } = useFormat();
    const { data, error } = useQuery(machineEventsQuery(machine.id));
    return (
        <>
            <ProblemAlert error={error} />
            <Table variant="compact" aria-label={t("tab.events")} gridBreakPoint="grid-md">
                <Thead>
                    <Tr><Th>{common("time")}</Th><Th>{t("event.severity")}</Th><Th>{t("event.text")}</Th><Th>{t("event.actor")}</Th></Tr>
                </Thead>
                <Tbody>
                    {data?.items.map((event) => (
                        <Tr key={event.seq}>
                            <Td dataLabel={common("time")} className="lw-number" modifier="nowrap">{moment(event.at)}</Td>
                            <Td dataLabel={t("event.severity")}><Label isCompact color={colors[event.severity]}>{common(`event.${event.severity}`)}</Label></Td>
                            <Td dataLabel={t("event.text")}><EventText event={event} /></Td>
                            <Td dataLabel={t("event.actor")}>{event.actor ?? "–"}</Td>
                        </Tr>
                    ))}
                </Tbody>
            </Table>
        </>
    );
}
