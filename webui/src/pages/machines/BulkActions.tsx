// SPDX-License-Identifier: Apache-2.0
//
// What can be done to all machines that are ticked. Those for which it was not done stay ticked.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { ToolbarItem } from "@patternfly/react-core/dist/dynamic/components/Toolbar";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useMay } from "../../api/session";
import { ActionDialog, type ActionKind, actionsFor } from "../../widgets/actionDialogs";
import { BulkSettings } from "./BulkSettings";

export function BulkActions({ machines, onTick }: { machines: Machine[]; onTick: (ids: ReadonlySet<string>) => void }) {
    const { t } = useTranslation();
    const { t: own } = useTranslation("machines");
    const mayAct = useMay("operator");
    const [asked, setAsked] = useState<ActionKind | "settings">();
    const close = (left?: Machine[]) => {
        setAsked(undefined);
        if (left) onTick(new Set(left.map((machine) => machine.id)));
    };
    if (!mayAct) return null;
    return (
        <>
            {actionsFor(machines).map((kind) => (
                <ToolbarItem key={kind}><Button id={`bulk-${kind}`} variant={kind === "unprotect" ? "danger" : "secondary"} onClick={() => setAsked(kind)}>{t(`action.${kind}.button`)}</Button></ToolbarItem>
            ))}
            {machines.length > 0 && <ToolbarItem><Button id="bulk-settings" variant="secondary" onClick={() => setAsked("settings")}>{own("bulk.button")}</Button></ToolbarItem>}
            {asked === "settings" && <BulkSettings machines={machines} onClose={close} />}
            {asked && asked !== "settings" && <ActionDialog kind={asked} machines={machines} onClose={close} />}
        </>
    );
}
