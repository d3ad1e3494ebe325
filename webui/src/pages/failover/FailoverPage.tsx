// SPDX-License-Identifier: Apache-2.0
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { failoverQuery } from "./failoverQueries";
import { FailoverView } from "./FailoverView";

export function FailoverPage() {
    const { t } = useTranslation("failover");
    const { t: words } = useTranslation("failovers");
    const { failoverId } = useParams({ from: "/shell/failovers/$failoverId" });
    const client = useQueryClient();
    const { data: failover, error } = useQuery(failoverQuery(failoverId));
    return (
        <>
            <PageHeader title={failover ? `${words(`kind.${failover.kind}`)} · ${failover.machine_name}` : t("one")} />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={error} />
                <FailoverView failover={failover} job={failover?.job_id ?? null} onBegun={() => void client.invalidateQueries({ queryKey: ["failovers"] })} />
            </PageSection>
        </>
    );
}
