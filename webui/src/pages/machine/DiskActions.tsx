// SPDX-License-Identifier: Apache-2.0
//
// What can be done with one disk while its machine is protected.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { type DiskAction, useDiskAction } from "../../api/actions";
import type { Disk, Machine } from "../../api/queries";
import { useMay } from "../../api/session";
import { Dialog } from "../../widgets/Dialog";

const CHANGES_DISKS = ["enabling", "initial_replication", "protected", "resynchronizing"];

function actionsOf(disk: Disk, machine: Machine): DiskAction[] {
    if (!CHANGES_DISKS.includes(machine.state)) return [];
    if (!disk.protected) return disk.present && disk.trackable ? ["add"] : [];
    const others = machine.protected_disk_count > 1;
    return [...(disk.present ? ["resize" as const] : []), ...(others ? ["exclude" as const] : [])];
}

export function DiskActions({ disk, machine }: { disk: Disk; machine: Machine }) {
    const { t } = useTranslation("machine");
    const mayAct = useMay("operator");
    const act = useDiskAction();
    const [asked, setAsked] = useState<DiskAction>();
    if (!mayAct) return null;
    const close = () => {
        setAsked(undefined);
        act.reset();
    };
    return (
        <Flex columnGap={{ default: "columnGapMd" }}>
            {actionsOf(disk, machine).map((action) => (
                <Button key={action} variant="link" isInline data-action={action} onClick={() => setAsked(action)} aria-label={t(`disk.action.${action}.label`, { disk: disk.device })}>
                    {t(`disk.action.${action}.button`)}
                </Button>
            ))}
            {asked && (
                <Dialog
                    title={t(`disk.action.${asked}.label`, { disk: disk.device })}
                    text={t(`disk.action.${asked}.text`, { disk: disk.device })}
                    action={t(`disk.action.${asked}.button`)}
                    isDanger={asked === "exclude"}
                    isPending={act.isPending}
                    error={act.error}
                    onAct={() => act.mutate({ machineId: machine.id, action: asked, disks: [disk.key] }, { onSuccess: close })}
                    onClose={close}
                />
            )}
        </Flex>
    );
}
