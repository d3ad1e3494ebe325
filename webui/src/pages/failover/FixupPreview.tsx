// SPDX-License-Identifier: Apache-2.0
//
// The list of changes before any is made: a job opens the point, looks at what is on its disks and says what it would do.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { isOver, jobQuery } from "../../api/queries";
import type { components } from "../../api/schema";
import { JobSteps } from "../../widgets/JobSteps";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { FixupList } from "./FixupList";
import { reportOf } from "./fixups";

type Request = components["schemas"]["FailoverPreview"];

export function FixupPreview({ request }: { request: Request }) {
    const { t } = useTranslation("failover");
    const ask = useMutation({ mutationFn: () => call(api.POST("/api/v1/failovers/preview", { body: request })) });
    const { data: job, error } = useQuery({ ...jobQuery(ask.data?.id ?? ""), enabled: ask.data !== undefined });
    const report = reportOf((job?.result as Record<string, unknown> | undefined)?.fixups);
    const isMade = job?.status === "succeeded" && report !== undefined;
    const mayAsk = !ask.data || (job ? isOver(job) && !isMade : error !== null);
    return (
        <div id="fixup-preview" className="lw-above" data-status={job?.status ?? (ask.isPending ? "asked" : "none")}>
            {mayAsk && <Button id="preview-fixups" variant="secondary" isDisabled={ask.isPending} isLoading={ask.isPending} onClick={() => ask.mutate()}>{t(ask.data || ask.isError ? "fixup.previewAgain" : "fixup.preview")}</Button>}
            {mayAsk && <p className="lw-subtle lw-above">{t("fixup.previewText")}</p>}
            <ProblemAlert error={ask.error ?? error} />
            {job?.problem && <Notice className="lw-above" variant="warning" isInline component="h3" title={job.problem.detail}>{job.problem.correction && <p>{job.problem.correction}</p>}</Notice>}
            {job?.status === "cancelled" && <Notice className="lw-above" variant="info" isInline component="h3" title={t("fixup.previewCancelled")} />}
            {isMade && <FixupList report={report} title={t("fixup.willChange")} />}
            {job && !isMade && <div className="lw-above"><JobSteps job={job} /></div>}
        </div>
    );
}
