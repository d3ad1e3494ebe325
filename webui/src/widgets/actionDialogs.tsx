// SPDX-License-Identifier: Apache-2.0
//
// Questions before something happens to one machine, or to several that were ticked.
import { Form, FormGroup } from "@patternfly/react-core/dist/dynamic/components/Form";
import { FormSelect, FormSelectOption } from "@patternfly/react-core/dist/dynamic/components/FormSelect";
import { TextInput } from "@patternfly/react-core/dist/dynamic/components/TextInput";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { type MachineAction, useMachineAction } from "../api/actions";
import { type Machine, policiesQuery } from "../api/queries";
import { Dialog } from "./Dialog";

const POINT_KINDS = ["crash", "filesystem", "application"] as const;
export type ActionKind = MachineAction["kind"];

interface ActionDialogProps {
    kind: ActionKind;
    machines: Machine[];
    onClose: () => void;
}

export function ActionDialog({ kind, machines, onClose }: ActionDialogProps) {
    const { t } = useTranslation();
    const act = useMachineAction();
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
    const names = machines.map((machine) => machine.name).join(", ");
    return (
        <Dialog
            title={t(`action.${kind}.title`)}
            text={t(`action.${kind}.text`, { names: names.length > 120 ? `${names.slice(0, 120)}…` : names })}
            action={t(`action.${kind}.button`)}
            isDanger={kind === "unprotect"}
            isPending={act.isPending}
            error={act.error}
            onAct={() => act.mutate({ ids: machines.map((machine) => machine.id), action: actions[kind] }, { onSuccess: onClose })}
            onClose={onClose}
        >
            {kind === "protect" && (
                <Form>
                    <FormGroup label={t("action.protect.policy")} fieldId="protect-policy">
                        <FormSelect id="protect-policy" value={policyId} onChange={(_event, value) => setPolicyId(value)}>
                            <FormSelectOption value="" label={t("action.protect.defaultPolicy")} />
                            {policies.map((policy) => <FormSelectOption key={policy.id} value={policy.id} label={policy.name} />)}
                        </FormSelect>
                    </FormGroup>
                </Form>
            )}
            {kind === "point" && (
                <Form>
                    <FormGroup label={t("action.point.kind")} fieldId="point-kind">
                        <FormSelect id="point-kind" value={point} onChange={(_event, value) => setPoint(value as typeof point)}>
                            {POINT_KINDS.map((value) => <FormSelectOption key={value} value={value} label={t(`point.${value}`)} />)}
                        </FormSelect>
                    </FormGroup>
                    <FormGroup label={t("action.point.tag")} fieldId="point-tag">
                        <TextInput id="point-tag" value={tag} maxLength={255} onChange={(_event, value) => setTag(value)} />
                    </FormGroup>
                </Form>
            )}
        </Dialog>
    );
}

/** What makes sense in the states that the machines are in. */
export function actionsFor(machines: Machine[]): ActionKind[] {
    if (machines.length === 0) return [];
    if (machines.every((machine) => machine.state === "unprotected")) return ["protect"];
    if (machines.every((machine) => machine.state === "protected")) return ["point", "resync", "unprotect"];
    return machines.every((machine) => machine.state !== "unprotected") ? ["unprotect"] : [];
}
