// SPDX-License-Identifier: Apache-2.0
//
// A problem as the hub tells it: what, what the reader can do, and the id under which the hub's log has it.
import { List, ListItem } from "@patternfly/react-core/dist/dynamic/components/List";
import { useTranslation } from "react-i18next";

import { asProblem, UNREACHABLE } from "../api/problem";
import { Notice } from "./Notice";

export function ProblemAlert({ error, title }: { error: unknown; title?: string }) {
    const { t } = useTranslation();
    if (!error) return null;
    const problem = asProblem(error);
    const unreachable = problem.code === UNREACHABLE;
    return (
        <Notice variant="danger" isInline component="h2" title={title ?? (unreachable ? t("problem.unreachable") : t("problem.title"))}>
            <p>{unreachable ? t("problem.unreachableText") : problem.detail || t("problem.status", { status: problem.status })}</p>
            {problem.faults.length > 0 && (
                <List>
                    {problem.faults.map((fault) => <ListItem key={fault.pointer + fault.detail}><code>{fault.pointer}</code> {fault.detail}</ListItem>)}
                </List>
            )}
            {problem.correction && <p><strong>{t("problem.correction")}</strong> {problem.correction}</p>}
            {problem.requestId && <p className="lw-subtle">{t("problem.request", { id: problem.requestId })}</p>}
        </Notice>
    );
}
