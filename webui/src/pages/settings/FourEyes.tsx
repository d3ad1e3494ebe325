// SPDX-License-Identifier: Apache-2.0
//
// What one person alone shall not do. Asking for less of it than before waits for a second person itself.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { FormFieldGroup, FormFieldGroupHeader } from "@patternfly/react-core/dist/dynamic/components/Form";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { asProblem } from "../../api/problem";
import type { components } from "../../api/schema";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";

export type FourEyes = NonNullable<components["schemas"]["Settings"]["four_eyes"]>;

const OPERATIONS: FourEyes = ["erase", "retention", "failover_commit", "branch_promote"];

/** In the hub's order, so that the same choice is the same list. */
const toggled = (chosen: FourEyes, operation: FourEyes[number], on: boolean) => OPERATIONS.filter((one) => (one === operation ? on : chosen.includes(one)));

export function FourEyesChoice({ chosen, isDisabled, onChange }: { chosen: FourEyes; isDisabled: boolean; onChange: (chosen: FourEyes) => void }) {
    const { t } = useTranslation("settings");
    return (
        <FormFieldGroup header={<FormFieldGroupHeader titleText={{ text: t("group.fourEyes"), id: "group-fourEyes" }} titleDescription={t("fourEyes.hint")} />}>
            {OPERATIONS.map((operation) => (
                <Checkbox key={operation} id={`four-eyes-${operation}`} label={t(`fourEyes.${operation}`)} isDisabled={isDisabled} isChecked={chosen.includes(operation)} onChange={(_event, on) => onChange(toggled(chosen, operation, on))} />
            ))}
        </FormFieldGroup>
    );
}

/** A change that is held back is no failure: it says where it waits. */
export function SettingsProblem({ error }: { error: unknown }) {
    const { t } = useTranslation("settings");
    if (!error) return null;
    const problem = asProblem(error);
    if (problem.code !== "approval_required") return <ProblemAlert error={error} />;
    return (
        <Notice variant="info" isInline component="h2" title={t("fourEyes.held")}>
            <p>{t("fourEyes.heldText")} {problem.detail}</p>
            <p><Link id="to-approvals" to="/approvals">{t("fourEyes.approvals")}</Link></p>
        </Notice>
    );
}
