// SPDX-License-Identifier: Apache-2.0
//
// One job: its steps as they go, its log, what it waits for, and what came out of it.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Title } from "@patternfly/react-core/dist/dynamic/components/Title";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { isOver, type Job, jobQuery } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { useJobName } from "../../widgets/jobName";
import { JobSteps } from "../../widgets/JobSteps";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { jobLogQuery } from "./jobQueries";
import { JobStatus } from "./JobStatus";

function Log({ job }: { job: Job }) {
    const { t } = useTranslation("jobs");
    const { clock } = useFormat();
    const { data: lines, error } = useQuery(jobLogQuery(job.id, !isOver(job)));
    return (
        <>
            <Title headingLevel="h2" className="lw-above">{t("log")}</Title>
            <ProblemAlert error={error} />
            {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls must be reachable with the keyboard */}
            <div className="lw-log" role="log" aria-label={t("log")} tabIndex={0}>
                {lines?.map((line) => <div key={line.seq} className={line.level === "error" ? "lw-late" : undefined}><time dateTime={line.at}>{clock(line.at)}</time> {line.text}</div>)}
            </div>
        </>
    );
}

function useAct(job: Job | undefined) {
    const client = useQueryClient();
    const onSuccess = () => client.invalidateQueries({ queryKey: ["job"] });
    const path = { job_id: job?.id ?? "" };
    const cancel = useMutation({ mutationFn: () => call(api.POST("/api/v1/jobs/{job_id}/cancel", { params: { path } })), onSuccess });
    const answer = useMutation({ mutationFn: (word: "continue" | "abort") => call(api.POST("/api/v1/jobs/{job_id}/answer", { params: { path }, body: { answer: word } })), onSuccess });
    return { cancel, answer };
}

export function JobPage() {
    const { t } = useTranslation("jobs");
    const { jobId } = useParams({ from: "/shell/jobs/$jobId" });
    const { data: job, error } = useQuery(jobQuery(jobId));
    const name = useJobName();
    const may = useMay("operator");
    const { cancel, answer } = useAct(job);
    const title = job ? `${name(job.kind)}${job.machine_name ? ` · ${job.machine_name}` : ""}` : t("one");
    return (
        <>
            <PageHeader
                title={title}
                text={job && t("askedBy", { who: job.requested_by })}
                labels={job && <JobStatus status={job.status} />}
                actions={may && job?.may_cancel && !isOver(job) && <Button id="cancel-job" variant="secondary" isDanger isLoading={cancel.isPending} isDisabled={job.cancel_requested || cancel.isPending} onClick={() => cancel.mutate()}>{job.cancel_requested ? t("cancelling") : t("cancel")}</Button>}
            />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={error ?? cancel.error ?? answer.error} />
                {job?.status === "waiting_for_input" && (
                    <Notice variant="warning" isInline component="h2" title={t("waits")} actionLinks={may && (
                        <>
                            <Button variant="primary" onClick={() => answer.mutate("continue")}>{t("continue")}</Button>
                            <Button variant="link" onClick={() => answer.mutate("abort")}>{t("abort")}</Button>
                        </>
                    )}>
                        <p>{job.waiting_for}</p>
                    </Notice>
                )}
                {job?.problem && (
                    <Notice variant="danger" isInline component="h2" title={job.problem.detail}>
                        {job.problem.correction && <p>{job.problem.correction}</p>}
                    </Notice>
                )}
                {job ? <><Title headingLevel="h2" className="lw-above">{t("steps")}</Title><JobSteps job={job} /><Log job={job} /></> : !error && <Skeleton height="16rem" screenreaderText={t("loading")} />}
            </PageSection>
        </>
    );
}
