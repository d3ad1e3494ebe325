// SPDX-License-Identifier: Apache-2.0
//
// What fix-ups change on a replica's disks, or have changed: which file, why, and the lines. Texts of the list are the hub's.
import { ExpandableSection } from "@patternfly/react-core/dist/dynamic/components/ExpandableSection";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { Notice } from "../../widgets/Notice";
import type { Change, FixupReport } from "./fixups";

const colors: Record<string, "green" | "blue" | "red" | "purple" | "teal"> = { create: "green", edit: "blue", remove: "red", run: "purple", restore: "teal" };
const signOf = (line: string) => (line.startsWith("+") ? "lw-added" : line.startsWith("-") ? "lw-removed" : undefined);

function Lines({ change }: { change: Change }) {
    const { t } = useTranslation("failover");
    const [isOpen, setOpen] = useState(false);
    return (
        <ExpandableSection toggleText={t(change.action === "run" ? "fixup.command" : "fixup.lines", { count: change.lines.length })} isExpanded={isOpen} onToggle={(_event, open) => setOpen(open)}>
            {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls must be reachable with the keyboard */}
            <pre className="lw-lines" tabIndex={0} role="region" aria-label={change.path}>{change.action === "run" ? change.lines.join(" ") : change.lines.map((line, at) => <div key={at} className={signOf(line)}>{line}</div>)}</pre>
        </ExpandableSection>
    );
}

function Changes({ changes }: { changes: readonly Change[] }) {
    const { t } = useTranslation("failover");
    return (
        <ul className="lw-changes">
            {changes.map((change) => (
                <li key={`${change.fixup} ${change.action} ${change.path}`} data-path={change.path}>
                    <Label isCompact color={colors[change.action] ?? "grey"}>{t(`fixup.action.${change.action}` as "fixup.action.edit", { defaultValue: change.action })}</Label>{" "}
                    <code className="lw-code">{change.path}</code>
                    <div className="lw-subtle">{[t(`fixup.name.${change.fixup}` as "fixup.name.drivers", { defaultValue: change.fixup }), change.why].filter(Boolean).join(": ")}</div>
                    {change.failure && <div className="lw-late">{change.failure}</div>}
                    {change.lines.length > 0 && <Lines change={change} />}
                </li>
            ))}
        </ul>
    );
}

export function FixupList({ report, title }: { report: FixupReport; title: string }) {
    const { t } = useTranslation("failover");
    const bad = report.failed || report.unbootable;
    return (
        <section className="lw-above" aria-label={title} data-changes={report.changes.length}>
            <h3 className="lw-heading">{title}</h3>
            {bad && <Notice variant="danger" isInline component="h4" title={bad} />}
            {report.warnings.filter((one) => !bad || !one.includes(bad)).map((one) => <Notice key={one} className="lw-above" variant="warning" isInline component="h4" title={one} />)}
            {report.changes.length > 0 ? <Changes changes={report.changes} /> : !bad && <p className="lw-subtle">{t("fixup.nothing")}</p>}
        </section>
    );
}
