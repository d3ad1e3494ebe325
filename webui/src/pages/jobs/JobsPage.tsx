// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Progress, ProgressMeasureLocation } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { TasksIcon } from "@patternfly/react-icons/dist/dynamic/icons/tasks-icon";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import type { Job } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { useJobName } from "../../widgets/jobName";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";
import { Switch } from "../../widgets/Switch";
import { isOver } from "../../api/queries";
import { jobsQuery } from "./jobQueries";
import { isShown, SHOW, SHOW_BEHIND, type Show, STATUS } from "./jobShow";
import { JobStatus } from "./JobStatus";

function useJobColumns(): Column<Job>[] {
    const { t } = useTranslation("jobs");
    const { percent, span } = useFormat();
    const name = useJobName();
    const took = (job: Job) => (job.started_at ? (new Date(job.finished_at ?? Date.now()).getTime() - new Date(job.started_at).getTime()) / 1000 : null);
    return [
        { key: "kind", label: t("column.kind"), width: 20, sortBy: (job) => name(job.kind), cell: (job) => <Link to="/jobs/$jobId" params={{ jobId: job.id }} className="lw-link">{name(job.kind)}</Link> },
        { key: "machine", label: t("column.machine"), width: 20, sortBy: (job) => job.machine_name, cell: (job) => job.machine_name ?? <span className="lw-subtle">–</span> },
        {
            key: "status",
            label: t("column.status"),
            width: 25,
            sortBy: (job) => job.status,
            cell: (job) => (
                <>
                    <JobStatus status={job.status} />
                    {!isOver(job) && <Progress value={job.progress_percent} label={percent(job.progress_percent / 100)} size="sm" measureLocation={ProgressMeasureLocation.outside} aria-label={name(job.kind)} className="lw-cell-progress" />}
                    {job.problem && <div className="lw-subtle lw-cause">{job.problem.detail}</div>}
                </>
            ),
        },
        { key: "asked", label: t("column.asked"), sortBy: (job) => job.created_at, cell: (job) => <Moment at={job.created_at} /> },
        { key: "took", label: t("column.took"), isNumber: true, sortBy: took, cell: (job) => { const seconds = took(job); return seconds === null ? <span className="lw-subtle">–</span> : span(Math.max(0, seconds)); } },
        { key: "by", label: t("column.by"), sortBy: (job) => job.requested_by, cell: (job) => job.requested_by },
    ];
}

export function JobsPage() {
    const { t } = useTranslation("jobs");
    const asked = useSearch({ from: "/shell/jobs" }).show;
    const behind = SHOW_BEHIND.find((value) => value === asked);
    const show: Show = behind ?? SHOW.find((value) => value === asked) ?? "all";
    const shown: readonly Show[] = behind ? [...SHOW, behind] : SHOW;
    const query = useInfiniteQuery(jobsQuery(STATUS[show]));
    const all = query.data?.pages.flatMap(({ items }) => items);
    const data = all?.filter((job) => isShown(job, show));
    const { number } = useFormat();
    const name = useJobName();
    return (
        <ListPage<Job>
            title={t("title")}
            text={t("text")}
            query={{ data, error: query.error, isPending: query.isPending }}
            columns={useJobColumns()}
            rowId={(job) => job.id}
            rowName={(job) => name(job.kind)}
            words={(job) => `${name(job.kind)} ${job.machine_name ?? ""} ${job.requested_by} ${job.problem?.detail ?? ""} ${job.id}`}
            sort="-asked"
            none={{ title: t("none"), text: t("noneText"), icon: TasksIcon }}
            above={<Switch label={t("show.label")} value={show} options={shown.map((value) => ({ value, text: t(`show.${value}`) }))} />}
            below={query.hasNextPage && (
                <p className="lw-below">
                    {t("latest", { shown: number(all?.length ?? 0) })}{" "}
                    <Button id="more-jobs" variant="link" isInline isLoading={query.isFetchingNextPage} isDisabled={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>{t("more")}</Button>
                </p>
            )}
        />
    );
}
