// SPDX-License-Identifier: Apache-2.0
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table/dist/dynamic/components/Table";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";

import { type Disk, disksQuery, type Machine } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { Moment } from "../../widgets/Moment";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { DiskActions } from "./DiskActions";

function DiskState({ disk }: { disk: Disk }) {
    const { t } = useTranslation("machine");
    if (!disk.present) return <Label color="orange" isCompact>{t("disk.absent")}</Label>;
    if (disk.protected) return <Label color="green" isCompact>{t("disk.protected")}</Label>;
    if (!disk.trackable) return <><Label color="grey" isCompact>{t("disk.notTrackable")}</Label><div className="lw-subtle">{disk.not_trackable_reason}</div></>;
    return <Label variant="outline" isCompact>{t("disk.unprotected")}</Label>;
}

export function DiskList({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    const { bytes } = useFormat();
    const { data = [], error } = useQuery(disksQuery(machine.id));
    return (
        <>
            <ProblemAlert error={error} />
            <Table variant="compact" aria-label={t("tab.disks")} gridBreakPoint="grid-md">
                <Thead>
                    <Tr><Th>{t("disk.device")}</Th><Th>{t("disk.size")}</Th><Th>{t("disk.state")}</Th><Th>{t("disk.volumes")}</Th><Th>{t("disk.actions")}</Th></Tr>
                </Thead>
                <Tbody>
                    {data.map((disk) => (
                        <Tr key={disk.id} data-device={disk.device} data-protected={disk.protected}>
                            <Td dataLabel={t("disk.device")}><strong>{disk.device}</strong><div className="lw-subtle">{[disk.model, disk.is_root && t("disk.root")].filter(Boolean).join(" · ")}</div></Td>
                            <Td dataLabel={t("disk.size")} className="lw-number">
                                {bytes(disk.size_bytes)}
                                {disk.previous_size_bytes !== null && <div className="lw-subtle">{t("disk.was", { size: bytes(disk.previous_size_bytes) })}{" · "}<Moment at={disk.resized_at} /></div>}
                            </Td>
                            <Td dataLabel={t("disk.state")}><DiskState disk={disk} /></Td>
                            <Td dataLabel={t("disk.volumes")}>
                                {disk.volumes.map((v) => <div key={v.device}>{[v.fs_type, v.mount_points?.join(", ")].filter(Boolean).join(" · ") || v.device}</div>)}
                            </Td>
                            <Td dataLabel={t("disk.actions")}><DiskActions disk={disk} machine={machine} /></Td>
                        </Tr>
                    ))}
                </Tbody>
            </Table>
        </>
    );
}
