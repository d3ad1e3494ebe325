// SPDX-License-Identifier: Apache-2.0
//
// What can be done to machines that are ticked; where it makes sense for some of them only, to how many. Those for which it was not done stay ticked.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { ToolbarItem } from "@patternfly/react-core/dist/dynamic/components/Toolbar";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { ActionDialog, type ActionKind, actionsFor } from "../../widgets/actionDialogs";
import { BulkSettings } from "./BulkSettings";

export function BulkActions({ machines, onTick }: { machines: Machine[]; onTick: (ids: ReadonlySet<string>) => void }) {
    const { t } = useTranslation();
    const { t: own } = useTranslation("machines");
    const { number } = useFormat();
    const mayAct = useMay("operator");
    const actions = actionsFor(machines);
    // With the machines as they were when it was asked: an action changes what fits them while it goes on.
    const [asked, setAsked] = useState<{ kind: ActionKind | "settings"; machines: Machine[] }>();
    const close = (left?: Machine[]) => {
        const done = new Set(asked?.machines.filter((machine) => !left?.includes(machine)).map((machine) => machine.id));
        setAsked(undefined);
        if (left) onTick(new Set(machines.map((machine) => machine.id).filter((id) => !done.has(id))));
    };
    const some = (count: number) => (count < machines.length ? ` (${number(count)})` : "");
    if (!mayAct) return null;
    return (
        <>
            {actions.map(({ kind, machines: able }) => (
                <ToolbarItem key={kind}><Button id={`bulk-${kind}`} variant={kind === "unprotect" ? "danger" : "secondary"} onClick={() => setAsked({ kind, machines: able })}>{t(`action.${kind}.button`)}{some(able.length)}</Button></ToolbarItem>
            ))}
            {machines.length > 0 && <ToolbarItem><Button id="bulk-settings" variant="secondary" onClick={() => setAsked({ kind: "settings", machines })}>{own("bulk.button")}</Button></ToolbarItem>}
            {asked?.kind === "settings" && <BulkSettings machines={asked.machines} onClose={close} />}
            {asked && asked.kind !== "settings" && <ActionDialog kind={asked.kind} machines={asked.machines} onClose={close} />}
        </>
    );
}
