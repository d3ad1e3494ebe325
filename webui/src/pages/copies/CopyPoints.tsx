// SPDX-License-Identifier: Apache-2.0
//
// The points that a copy has, newest first; each can be opened and exported where it is. Their numbers are the copy's own.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Title } from "@patternfly/react-core/dist/dynamic/components/Title";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { PointTable } from "../machine/PointTable";
import { type Copy, copyPointsQuery } from "./copyQueries";

const SHOWN = 20;
const MOST = 500; // of one page

export function CopyPoints({ machine, copy, onClose }: { machine: Machine; copy: Copy; onClose: () => void }) {
    const { t } = useTranslation("copies");
    const { t: common } = useTranslation();
    const [limit, setLimit] = useState(SHOWN);
    const { data, error } = useQuery(copyPointsQuery(machine.id, copy.vault_id, limit));
    return (
        <section id="copy-points" className="lw-above" aria-label={t("points.title", { vault: copy.vault_name })}>
            <Title headingLevel="h2" size="lg">{t("points.title", { vault: copy.vault_name })}</Title>
            <p className="lw-subtle">{t("points.text", { vault: copy.vault_name })}</p>
            <ProblemAlert error={error} />
            {data ? (data.items.length > 0 ? <PointTable machine={machine} points={data.items} copyIn={copy} /> : <p>{t("points.none")}</p>) : !error && <Skeleton height="8rem" screenreaderText={common("loading")} />}
            {data?.next && limit < MOST && <Button variant="link" isInline onClick={() => setLimit(Math.min(MOST, limit * 5))}>{t("points.more")}</Button>}{" "}
            <Button variant="link" isInline onClick={onClose}>{t("points.close")}</Button>
        </section>
    );
}
