// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useMay } from "../../api/session";
import { ActionDialog, type ActionKind, actionsFor } from "../../widgets/actionDialogs";
import { presentFailoverQuery } from "../failover/failoverQueries";
import { hasFailedOver, mayFailOver } from "../failover/subject";

/** Where a replica of it, or other hardware, can take over. */
function WaysOut({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    if (!mayFailOver(machine)) return null;
    return (
        <>
            <Button id="to-failover" variant="secondary" component={(props) => <Link {...props} to="/failovers/new" search={{ machine: machine.id }} />}>{t("failOver")}</Button>
            {!machine.online && <Button id="to-restore" variant="secondary" component={(props) => <Link {...props} to="/restore" search={{ machine: machine.id }} />}>{t("restore")}</Button>}
        </>
    );
}

/** Where the replica is committed, protected and failed back. */
function WayBack({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    const { data: failover } = useQuery(presentFailoverQuery(machine.id));
    if (!failover) return null;
    return <Button id="to-present-failover" variant="primary" component={(props) => <Link {...props} to="/failovers/$failoverId" params={{ failoverId: failover }} />}>{t("presentFailover")}</Button>;
}

export function MachineActions({ machine }: { machine: Machine }) {
    const { t } = useTranslation();
    const mayAct = useMay("operator");
    const [asked, setAsked] = useState<ActionKind>();
    if (!mayAct) return null;
    return (
        <Flex columnGap={{ default: "columnGapSm" }}>
            {actionsFor([machine]).map(({ kind }, index) => (
                <Button key={kind} id={`action-${kind}`} variant={kind === "unprotect" ? "danger" : index === 0 ? "primary" : "secondary"} onClick={() => setAsked(kind)}>{t(`action.${kind}.button`)}</Button>
            ))}
            <WaysOut machine={machine} />
            {hasFailedOver(machine) && <WayBack machine={machine} />}
            {asked && <ActionDialog kind={asked} machines={[machine]} onClose={() => setAsked(undefined)} />}
        </Flex>
    );
}
