// SPDX-License-Identifier: Apache-2.0
//
// A failover as it goes: the steps of the job that works on it, the banner that asks for the decision while it runs, and what it is.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm } from "@patternfly/react-core/dist/dynamic/components/DescriptionList";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import { jobQuery } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { JobSteps } from "../../widgets/JobSteps";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { type Act, actsFor, EndDialog, type Failover, isEnd } from "../failovers/EndDialog";
import { screenQuery } from "./failoverQueries";
import { FixupList } from "./FixupList";
import { reportOf } from "./fixups";

const bannerOf = (failover: Failover) => (failover.kind === "test" ? "test" : failover.state === "committed" || failover.state === "reprotected" ? failover.state : "real");

/** Commit or roll back, clean up, protect it, go back: the decision that a replica waits for. */
function Decision({ failover, onBegun }: { failover: Failover; onBegun: (job: string) => void }) {
    const { t } = useTranslation("failover");
    const { t: words } = useTranslation("failovers");
    const may = useMay("operator");
    const navigate = useNavigate();
    const [act, setAct] = useState<Act>();
    const acts = actsFor(failover);
    if (acts.length === 0) return null;
    const banner = bannerOf(failover);
    const begin = (one: Act) => (isEnd(one) ? setAct(one) : void navigate({ to: "/failovers/$failoverId/failback", params: { failoverId: failover.id } }));
    return (
        <div id="decision">
            <Notice
                variant={banner === "test" || banner === "reprotected" ? "info" : "warning"}
                isInline
                component="h2"
                title={t(`banner.${banner}`, { name: failover.machine_name })}
                actionLinks={may && acts.map((one) => <Button key={one} id={`act-${one}`} variant={one === "commit" ? "danger" : "secondary"} onClick={() => begin(one)}>{words(`act.${one}`)}</Button>)}
            >
                <p>{t(`banner.${banner}Text`)}</p>
            </Notice>
            {act && isEnd(act) && <EndDialog act={act} failover={failover} onClose={() => setAct(undefined)} onBegun={onBegun} />}
        </div>
    );
}

function Facts({ failover }: { failover: Failover }) {
    const { t } = useTranslation("failovers");
    const { moment, span, number } = useFormat();
    const rows: [string, ReactNode][] = [
        [t("column.kind"), t(`kind.${failover.kind}`)],
        [t("column.state"), t(`state.${failover.state}`)],
        [t("column.point"), `${number(failover.sequence)}${failover.point_time ? ` · ${moment(failover.point_time)}` : ""}`],
        [t("column.target"), `${failover.target_name} (${failover.adapter})`],
        [t("column.verdict"), [t(`verdict.${failover.verdict}`), failover.verdict_text].filter(Boolean).join(" · ")],
        [t("column.rto"), failover.rto_seconds > 0 ? span(failover.rto_seconds) : "–"],
    ];
    return (
        <DescriptionList isHorizontal isCompact className="lw-above">
            {rows.map(([term, text]) => <DescriptionListGroup key={term}><DescriptionListTerm>{term}</DescriptionListTerm><DescriptionListDescription>{text}</DescriptionListDescription></DescriptionListGroup>)}
        </DescriptionList>
    );
}

const SERIAL_SHOWN = 4000; // characters, of the last ones
const LIVE = ["starting", "running", "committed", "reprotected"];

/** The screen while there is one, and the end of the serial line once the target has told it. */
function Console({ failover }: { failover: Failover }) {
    const { t } = useTranslation("failover");
    const { moment } = useFormat();
    const mayLook = useMay("operator");
    const live = failover.adapter === "libvirt" && LIVE.includes(failover.state);
    const screen = useQuery({ ...screenQuery(failover.id), enabled: live && mayLook });
    const serial = failover.replica.console;
    return (
        <>
            {live && screen.data && (
                <figure id="screen" className="lw-above">
                    <figcaption>{t("screen", { name: failover.machine_name })}</figcaption>
                    <img className="lw-screen" src={screen.data} alt={t("screen", { name: failover.machine_name })} />
                    {screen.isError && <p className="lw-subtle">{t("screenOf", { time: moment(screen.dataUpdatedAt) })}</p>}
                </figure>
            )}
            {typeof serial === "string" && serial !== "" && (
                <figure id="serial" className="lw-above">
                    <figcaption>{t("serial")}</figcaption>
                    <pre className="lw-serial">{serial.slice(-SERIAL_SHOWN)}</pre>
                </figure>
            )}
        </>
    );
}

/** What was changed on its disks before it started, and what of that was taken back. */
function Prepared({ failover }: { failover: Failover }) {
    const { t } = useTranslation("failover");
    const report = reportOf(failover.fixups);
    if (!report) return null;
    return (
        <div id="fixups">
            <FixupList report={report} title={t("fixup.hasChanged")} />
            {report.takenBack && <FixupList report={report.takenBack} title={t("fixup.takenBack")} />}
        </div>
    );
}

/** `job`: what works on it now, or did last. */
export function FailoverView({ failover, job: jobId, onBegun }: { failover: Failover | undefined; job: string | null; onBegun: (job: string) => void }) {
    const { data: job, error } = useQuery({ ...jobQuery(jobId ?? ""), enabled: jobId !== null });
    return (
        <div id="failover" data-state={failover?.state}>
            {failover && <Decision failover={failover} onBegun={onBegun} />}
            <ProblemAlert error={error} />
            {job?.problem && <Notice variant="danger" isInline component="h2" title={job.problem.detail}>{job.problem.correction && <p>{job.problem.correction}</p>}</Notice>}
            {failover && <Facts failover={failover} />}
            {failover && <Prepared failover={failover} />}
            {failover && <Console failover={failover} />}
            {job && <div className="lw-above"><JobSteps job={job} /></div>}
        </div>
    );
}
