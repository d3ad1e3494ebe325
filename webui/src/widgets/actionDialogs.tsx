// SPDX-License-Identifier: Apache-2.0
//
// Questions before something happens to one machine, or to several that were ticked.
import { FormGroup } from "@patternfly/react-core/dist/dynamic/components/Form";
import { FormSelect, FormSelectOption } from "@patternfly/react-core/dist/dynamic/components/FormSelect";
import { TextInput } from "@patternfly/react-core/dist/dynamic/components/TextInput";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { type MachineAction, requestAction } from "../api/actions";
import { type Machine, policiesQuery } from "../api/queries";
import { EachDialog, useNamesOf } from "./EachDialog";

const POINT_KINDS = ["crash", "filesystem", "application"] as const;
export type ActionKind = MachineAction["kind"];

interface ActionDialogProps {
    kind: ActionKind;
    machines: Machine[];
    /** `left`: those for which it could not be asked; undefined: it was not asked for any. */
    onClose: (left?: Machine[]) => void;
}

export function ActionDialog({ kind, machines, onClose }: ActionDialogProps) {
    const { t } = useTranslation();
    const namesOf = useNamesOf();
    const { data: policies = [] } = useQuery({ ...policiesQuery, enabled: kind === "protect" });
    const [policyId, setPolicyId] = useState("");
    const [point, setPoint] = useState<(typeof POINT_KINDS)[number]>("crash");
    const [tag, setTag] = useState("");
    const actions: Record<ActionKind, MachineAction> = {
        protect: { kind: "protect", disks: "all-eligible", policyId: policyId || undefined },
        unprotect: { kind: "unprotect" },
        resync: { kind: "resync" },
        point: { kind: "point", point, tag: tag || undefined },
    };
    return (
        <EachDialog
            title={t(`action.${kind}.title`)}
            text={t(`action.${kind}.text`, { names: namesOf(machines) })}
            submit={t(`action.${kind}.button`)}
            isDanger={kind === "unprotect"}
            thing="machine"
            items={machines}
            ask={async (machine) => {
                await requestAction(machine.id, actions[kind]);
                return "done";
            }}
            onClose={onClose}
        >
            {kind === "protect" && (
                <FormGroup label={t("action.protect.policy")} fieldId="protect-policy">
                    <FormSelect id="protect-policy" value={policyId} onChange={(_event, value) => setPolicyId(value)}>
                        <FormSelectOption value="" label={t("action.protect.defaultPolicy")} />
                        {policies.map((policy) => <FormSelectOption key={policy.id} value={policy.id} label={policy.name} />)}
                    </FormSelect>
                </FormGroup>
            )}
            {kind === "point" && (
                <>
                    <FormGroup label={t("action.point.kind")} fieldId="point-kind">
                        <FormSelect id="point-kind" value={point} onChange={(_event, value) => setPoint(value as typeof point)}>
                            {POINT_KINDS.map((value) => <FormSelectOption key={value} value={value} label={t(`point.${value}`)} />)}
                        </FormSelect>
                    </FormGroup>
                    <FormGroup label={t("action.point.tag")} fieldId="point-tag">
                        <TextInput id="point-tag" value={tag} maxLength={255} onChange={(_event, value) => setTag(value)} />
                    </FormGroup>
                </>
            )}
        </EachDialog>
    );
}

/** In which states each makes sense. */
const fits: Record<ActionKind, (machine: Machine) => boolean> = {
    protect: (machine) => machine.state === "unprotected",
    point: (machine) => machine.state === "protected",
    resync: (machine) => machine.state === "protected",
    unprotect: (machine) => machine.state !== "unprotected",
};

/** What can be done to some of these machines, and to which. */
export function actionsFor(machines: Machine[]): { kind: ActionKind; machines: Machine[] }[] {
    const kinds: ActionKind[] = ["protect", "point", "resync", "unprotect"];
    return kinds.map((kind) => ({ kind, machines: machines.filter(fits[kind]) })).filter((action) => action.machines.length > 0);
}
