// SPDX-License-Identifier: Apache-2.0
//
// The first copy as it goes: the job's steps, how much is done, how fast, how long it will take, until the first recovery point is there.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Progress } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { jobQuery, machineQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { JobSteps } from "../../widgets/JobSteps";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";

export function FirstCopy({ machine: id, job: jobId }: { machine: string; job: string }) {
    const { t } = useTranslation("protect");
    const { bytes, rate, span, percent } = useFormat();
    const { data: machine, error } = useQuery({ ...machineQuery(id), refetchInterval: 1500 });
    const job = useQuery(jobQuery(jobId)).data;
    const total = machine?.initial_total_bytes ?? 0;
    const share = job?.status === "succeeded" ? 1 : total > 0 ? Math.min(1, (machine?.initial_done_bytes ?? 0) / total) : 0;
    return (
        <div id="first-copy" data-status={job?.status}>
            <ProblemAlert error={error} />
            {job?.problem && <Notice variant="danger" isInline component="h3" title={job.problem.detail}>{job.problem.correction && <p>{job.problem.correction}</p>}</Notice>}
            {job?.status === "succeeded" && (
                <Notice variant="success" isInline component="h3" title={t("done", { name: machine?.name ?? "" })}>
                    <p>{t("doneText")}</p>
                </Notice>
            )}
            <Progress className="lw-above" value={share * 100} label={percent(share)} title={t("copy.title")} aria-label={t("copy.title")} />
            <p className="lw-subtle" role="status">
                {total > 0 && t("copy.amount", { done: bytes(machine?.initial_done_bytes ?? 0), total: bytes(total) })}
                {job?.status === "running" && (machine?.sent_bytes_per_second ?? 0) > 0 && ` · ${rate(machine?.sent_bytes_per_second ?? 0)}`}
                {job?.status === "running" && (machine?.remaining_seconds ?? 0) > 0 && ` · ${t("copy.remaining", { time: span(machine?.remaining_seconds ?? 0) })}`}
            </p>
            <div className="lw-above">{job && <JobSteps job={job} />}</div>
            <Button id="to-machine" variant={job?.status === "succeeded" ? "primary" : "link"} component={(props) => <Link {...props} to="/machines/$machineId" params={{ machineId: id }} />}>{t("toMachine")}</Button>
        </div>
    );
}
