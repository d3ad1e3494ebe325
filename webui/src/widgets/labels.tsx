// SPDX-License-Identifier: Apache-2.0
//
// Health and state as colour, sign and word: never the colour alone.
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { CheckCircleIcon } from "@patternfly/react-icons/dist/dynamic/icons/check-circle-icon";
import { ExclamationCircleIcon } from "@patternfly/react-icons/dist/dynamic/icons/exclamation-circle-icon";
import { ExclamationTriangleIcon } from "@patternfly/react-icons/dist/dynamic/icons/exclamation-triangle-icon";
import { QuestionCircleIcon } from "@patternfly/react-icons/dist/dynamic/icons/question-circle-icon";
import { useTranslation } from "react-i18next";

import type { Machine } from "../api/queries";

export type Health = Machine["health"];
export const HEALTHS: Health[] = ["healthy", "warning", "critical", "unknown"];

const looks = {
    healthy: { color: "green", icon: <CheckCircleIcon /> },
    warning: { color: "orange", icon: <ExclamationTriangleIcon /> },
    critical: { color: "red", icon: <ExclamationCircleIcon /> },
    unknown: { color: "grey", icon: <QuestionCircleIcon /> },
} as const;

export function HealthLabel({ health }: { health: Health }) {
    const { t } = useTranslation();
    const { color, icon } = looks[health];
    return <Label color={color} icon={icon} isCompact>{t(`health.${health}`)}</Label>;
}

export type MachineState = Machine["state"];
export const STATES: MachineState[] = [
    "unprotected", "enabling", "initial_replication", "protected", "resynchronizing", "failed_over", "committed", "reverse_replicating", "reverse_protected",
];

const stateColors: Partial<Record<MachineState, "green" | "blue" | "purple" | "teal">> = {
    protected: "green",
    reverse_protected: "green",
    enabling: "blue",
    initial_replication: "blue",
    resynchronizing: "blue",
    reverse_replicating: "blue",
    failed_over: "purple",
    committed: "teal",
};

export function StateLabel({ state }: { state: MachineState }) {
    const { t } = useTranslation();
    return <Label variant="outline" color={stateColors[state] ?? "grey"} isCompact>{t(`state.${state}`)}</Label>;
}
