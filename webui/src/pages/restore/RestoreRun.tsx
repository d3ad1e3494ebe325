// SPDX-License-Identifier: Apache-2.0
//
// Disks being written, as it goes: the job's steps, a way to stop it while that can be, and what there is to do afterwards.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { isOver, jobQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { JobSteps } from "../../widgets/JobSteps";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";

interface RestoreRunProps {
    job: string;
    machine: { id: string; name: string };
    /** What is said when it is done. */
    done: { title: string; text: string };
    /** The member of the job's result that says what was written. */
    figures: "restored" | "failback";
}

/** Bytes come as text, for they may pass 2^53, or as a number. */
const amount = (value: unknown) => (typeof value === "string" || typeof value === "number" ? Number(value) : 0);

export function RestoreRun({ job: id, machine, done, figures }: RestoreRunProps) {
    const { t } = useTranslation("restore");
    const { t: jobs } = useTranslation("jobs");
    const { bytes } = useFormat();
    const client = useQueryClient();
    const { data: job, error } = useQuery(jobQuery(id));
    const cancel = useMutation({ mutationFn: () => call(api.POST("/api/v1/jobs/{job_id}/cancel", { params: { path: { job_id: id } } })), onSettled: () => client.invalidateQueries({ queryKey: ["job"] }) });
    const moved = (job?.result as Record<string, Record<string, unknown>> | undefined)?.[figures];
    const mayStop = job?.may_cancel && !isOver(job);
    return (
        <div id="overwriting" data-status={job?.status}>
            <ProblemAlert error={error ?? cancel.error} />
            {job?.problem && <Notice variant="danger" isInline component="h3" title={job.problem.detail}>{job.problem.correction && <p>{job.problem.correction}</p>}</Notice>}
            {job?.status === "cancelled" && <Notice variant="info" isInline component="h3" title={t("cancelled")} />}
            {job?.status === "succeeded" && <Notice variant="success" isInline component="h3" title={done.title}><p>{done.text}</p></Notice>}
            {moved && <p className="lw-above" id="moved">{t("moved", { written: bytes(amount(moved.written_bytes)), traffic: bytes(amount(moved.traffic_bytes)), compared: bytes(amount(moved.compared_bytes)) })}</p>}
            <div className="lw-above">{job && <JobSteps job={job} />}</div>
            <Flex columnGap={{ default: "columnGapMd" }} className="lw-above">
                <Button id="to-machine" variant={job && isOver(job) ? "primary" : "link"} component={(props) => <Link {...props} to="/machines/$machineId" params={{ machineId: machine.id }} />}>{t("toMachine", { name: machine.name })}</Button>
                {mayStop && <Button id="cancel-job" variant="secondary" isDanger isDisabled={job.cancel_requested || cancel.isPending} onClick={() => cancel.mutate()}>{jobs(job.cancel_requested ? "cancelling" : "cancel")}</Button>}
            </Flex>
        </div>
    );
}
