// SPDX-License-Identifier: Apache-2.0
//
// In the header on every page: what runs and what waits for a person, with its progress.
import { NotificationBadge } from "@patternfly/react-core/dist/dynamic/components/NotificationBadge";
import { Popover } from "@patternfly/react-core/dist/dynamic/components/Popover";
import { Progress, ProgressMeasureLocation } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { TasksIcon } from "@patternfly/react-icons/dist/dynamic/icons/tasks-icon";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";

import { activeJobsQuery, type Job } from "../api/queries";
import { useJobName } from "../widgets/jobName";

function Task({ job }: { job: Job }) {
    const { t } = useTranslation();
    const name = useJobName();
    const waits = job.status === "waiting_for_input";
    return (
        <li className="lw-task">
            <Progress
                title={`${name(job.kind)}${job.machine_name ? ` · ${job.machine_name}` : ""}`}
                value={Math.round(job.progress_percent)}
                measureLocation={ProgressMeasureLocation.outside}
                size="sm"
                variant={waits ? "warning" : undefined}
                helperText={waits ? (job.waiting_for ?? t("jobs.status.waiting_for_input")) : t(`jobs.status.${job.status}`)}
            />
        </li>
    );
}

export function RunningTasks() {
    const { t } = useTranslation();
    const jobs = useQuery(activeJobsQuery).data ?? [];
    const waiting = jobs.filter((job) => job.status === "waiting_for_input").length;
    const label = t("tasks.label", { count: jobs.length });
    return (
        <Popover
            headerContent={t("tasks.title")}
            headerComponent="h2"
            closeBtnAriaLabel={t("close")}
            aria-label={t("tasks.title")}
            position="bottom-end"
            minWidth="20rem"
            bodyContent={
                jobs.length === 0 ? <p>{t("tasks.none")}</p> : <ul className="lw-tasks">{jobs.map((job) => <Task key={job.id} job={job} />)}</ul>
            }
        >
            <NotificationBadge id="running-tasks" variant={waiting > 0 ? "attention" : jobs.length > 0 ? "unread" : "read"} count={jobs.length} aria-label={label} icon={<TasksIcon />} />
        </Popover>
    );
}
