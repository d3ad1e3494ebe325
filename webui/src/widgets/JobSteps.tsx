// SPDX-License-Identifier: Apache-2.0
//
// The steps of a job as they go.
import { ProgressStep, ProgressStepper } from "@patternfly/react-core/dist/dynamic/components/ProgressStepper";
import { useTranslation } from "react-i18next";

import type { Job } from "../api/queries";

const variants: Record<string, "success" | "danger" | "warning" | "info" | "pending"> = { succeeded: "success", failed: "danger", waiting_for_input: "warning", running: "info" };

type Step = NonNullable<Job["steps"]>[number];

export function JobSteps({ job }: { job: Job }) {
    const { t } = useTranslation("jobs");
    /** The hub's own words for a step that this console does not know. */
    const titleOf = (step: Step) => t(`step.${job.kind}.${step.name}` as "step.protect.agent", { defaultValue: step.title });
    return (
        <ProgressStepper isVertical aria-label={t("steps")}>
            {(job.steps ?? []).map((step) => (
                <ProgressStep key={step.name} id={`step-${step.name}`} titleId={`step-${step.name}-title`} variant={variants[step.status] ?? "pending"} isCurrent={step.status === "running"} description={step.problem ?? step.detail} aria-label={titleOf(step)}>
                    {titleOf(step)}
                </ProgressStep>
            ))}
        </ProgressStepper>
    );
}
