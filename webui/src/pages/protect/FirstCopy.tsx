// SPDX-License-Identifier: Apache-2.0
//
// The first copy as it goes: the job's steps, how much is done, how fast, how long it will take, until the first recovery point is there.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { jobQuery, machineQuery } from "../../api/queries";
import { CopyProgress } from "../../widgets/CopyProgress";
import { JobSteps } from "../../widgets/JobSteps";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";

export function FirstCopy({ machine: id, job: jobId }: { machine: string; job: string }) {
    const { t } = useTranslation("protect");
    const { data: machine, error } = useQuery({ ...machineQuery(id), refetchInterval: 1500 });
    const job = useQuery(jobQuery(jobId)).data;
    return (
        <div id="first-copy" data-status={job?.status}>
            <ProblemAlert error={error} />
            {job?.problem && <Notice variant="danger" isInline component="h3" title={job.problem.detail}>{job.problem.correction && <p>{job.problem.correction}</p>}</Notice>}
            {job?.status === "succeeded" && (
                <Notice variant="success" isInline component="h3" title={t("done", { name: machine?.name ?? "" })}>
                    <p>{t("doneText")}</p>
                </Notice>
            )}
            <div role="status"><CopyProgress machine={machine} title={t("copy.title")} isOver={job?.status === "succeeded"} /></div>
            <div className="lw-above">{job && <JobSteps job={job} />}</div>
            <Button id="to-machine" variant={job?.status === "succeeded" ? "primary" : "link"} component={(props) => <Link {...props} to="/machines/$machineId" params={{ machineId: id }} />}>{t("toMachine")}</Button>
        </div>
    );
}
