// SPDX-License-Identifier: Apache-2.0
//
// What is wrong, worst first: the hub has sorted them by severity and by the number of machines hit.
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import type { Overview } from "../../api/queries";
import { useAlertTitle } from "../../widgets/alertTitle";
import { HealthLabel } from "../../widgets/labels";
import { useWords } from "../../words/useWords";

export function ProblemList({ problems }: { problems: Overview["problems"] }) {
    const { t } = useTranslation("overview");
    const title = useAlertTitle();
    const { finding } = useWords();
    if (problems.length === 0) return <p className="lw-subtle">{t("problems.none")}</p>;
    return (
        <ul className="lw-plain-list">
            {problems.map((problem) => (
                <li key={problem.code}>
                    <HealthLabel health={problem.severity} /> <Link to="/alerts" search={{ code: problem.code }} className="lw-link"><strong>{title(problem.code, problem.title)}</strong></Link>{" "}
                    <span className="lw-subtle">{t("problems.machines", { count: problem.machines })}</span>
                    <div className="lw-subtle">{finding(problem.code, problem.values, { cause: "", remedy: problem.remedy }).remedy}</div>
                </li>
            ))}
        </ul>
    );
}
