// SPDX-License-Identifier: Apache-2.0
//
// What can be done to all machines that are ticked.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { ToolbarItem } from "@patternfly/react-core/dist/dynamic/components/Toolbar";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useMay } from "../../api/session";
import { ActionDialog, type ActionKind, actionsFor } from "../../widgets/actionDialogs";

export function BulkActions({ machines }: { machines: Machine[] }) {
    const { t } = useTranslation();
    const mayAct = useMay("operator");
    const [asked, setAsked] = useState<ActionKind>();
    if (!mayAct) return null;
    return (
        <>
            {actionsFor(machines).map((kind) => (
                <ToolbarItem key={kind}><Button id={`bulk-${kind}`} variant={kind === "unprotect" ? "danger" : "secondary"} onClick={() => setAsked(kind)}>{t(`action.${kind}.button`)}</Button></ToolbarItem>
            ))}
            {asked && <ActionDialog kind={asked} machines={machines} onClose={() => setAsked(undefined)} />}
        </>
    );
}
