// SPDX-License-Identifier: Apache-2.0
//
// What the hub says of a change before it is asked to make it (dry_run).
import { useTranslation } from "react-i18next";

import { Notice } from "./Notice";
import { ProblemAlert } from "./ProblemAlert";

/** `component`: the heading of what it says; h2 in a dialog, whose title is the h1. */
export function Precheck({ check, component = "h3" }: { check: { isPending: boolean; isSuccess: boolean; error: unknown }; component?: "h2" | "h3" }) {
    const { t } = useTranslation();
    return (
        <div className="lw-above" role="status" id="precheck" data-passed={check.isSuccess}>
            {check.isPending && <p>{t("precheck.checking")}</p>}
            {check.isSuccess && <Notice variant="success" isInline component={component} title={t("precheck.passed")} />}
            <ProblemAlert error={check.error} title={t("precheck.refused")} />
        </div>
    );
}
