// SPDX-License-Identifier: Apache-2.0
//
// The states of steps and runs, and verdicts, as colour and word.
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { useTranslation } from "react-i18next";

import type { PlanReport, PlanRun } from "./planQueries";

export type StepStateName = PlanReport["steps"][number]["state"];

const stepColors = { pending: "grey", running: "blue", waiting_for_input: "orange", succeeded: "green", failed: "red", passed_over: "orange", skipped: "grey", cancelled: "grey" } as const;
const runColors = { running: "blue", succeeded: "green", failed: "red", cancelled: "grey" } as const;
const verdictColors = { unknown: "grey", passed: "green", failed: "red" } as const;

export function StepState({ state }: { state: StepStateName }) {
    const { t } = useTranslation("plans");
    return <Label color={stepColors[state]} isCompact>{t(`step.${state}`)}</Label>;
}

export function RunState({ state }: { state: PlanRun["state"] }) {
    const { t } = useTranslation("plans");
    return <Label variant="outline" color={runColors[state]} isCompact>{t(`run.${state}`)}</Label>;
}

export function Verdict({ verdict }: { verdict: PlanRun["verdict"] }) {
    const { t } = useTranslation("plans");
    return <Label color={verdictColors[verdict]} isCompact>{t(`verdict.${verdict}`)}</Label>;
}
