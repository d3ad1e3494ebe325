// SPDX-License-Identifier: Apache-2.0
//
// What the hub says of a change before it is asked to make it (dry_run).
import { useTranslation } from "react-i18next";

import { Notice } from "./Notice";
import { ProblemAlert } from "./ProblemAlert";

export function Precheck({ check }: { check: { isPending: boolean; isSuccess: boolean; error: unknown } }) {
    const { t } = useTranslation();
    return (
        <div className="lw-above" role="status" id="precheck" data-passed={check.isSuccess}>
            {check.isPending && <p>{t("precheck.checking")}</p>}
            {check.isSuccess && <Notice variant="success" isInline component="h3" title={t("precheck.passed")} />}
            <ProblemAlert error={check.error} title={t("precheck.refused")} />
        </div>
    );
}
