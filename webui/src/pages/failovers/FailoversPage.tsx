// SPDX-License-Identifier: Apache-2.0
//
// Failovers: what runs as a replica, and how drills went. What takes a replica away or makes it the machine asks for the machine's name first.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { RedoIcon } from "@patternfly/react-icons/dist/dynamic/icons/redo-icon";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, callAll } from "../../api/client";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";
import { actsFor, type End, EndDialog, type Failover, isEnd } from "./EndDialog";

const isOpen = (f: Failover) => f.state === "starting" || f.state === "running" || f.state === "ending";

const failoversQuery = queryOptions({
    queryKey: ["failovers"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/failovers", { params: { query: { limit: 500, cursor } } }), 1000),
    refetchInterval: (query) => (query.state.data?.some(isOpen) ? 2000 : 10_000),
});

const colors = { starting: "blue", running: "purple", ending: "blue", cleaned: "green", committed: "teal", rolled_back: "grey", failed: "red", reprotected: "teal", failed_back: "green" } as const;
const verdicts = { unknown: "grey", passed: "green", failed: "red" } as const;

function useFailoverColumns(): Column<Failover>[] {
    const { t } = useTranslation("failovers");
    const { span, number } = useFormat();
    return [
        { key: "machine", label: t("column.machine"), width: 20, sortBy: (f) => f.machine_name, cell: (f) => <><Link to="/failovers/$failoverId" params={{ failoverId: f.id }} className="lw-link"><strong>{f.machine_name}</strong></Link><div className="lw-subtle">{t(`kind.${f.kind}`)}</div></> },
        { key: "state", label: t("column.state"), sortBy: (f) => f.state, cell: (f) => <Label variant="outline" color={colors[f.state]} isCompact>{t(`state.${f.state}`)}</Label> },
        { key: "point", label: t("column.point"), isNumber: true, sortBy: (f) => f.sequence, cell: (f) => <>{number(f.sequence)}<div className="lw-subtle"><Moment at={f.point_time} /></div></> },
        { key: "target", label: t("column.target"), sortBy: (f) => f.target_name, cell: (f) => f.target_name },
        { key: "verdict", label: t("column.verdict"), width: 20, sortBy: (f) => f.verdict, cell: (f) => <><Label color={verdicts[f.verdict]} isCompact>{t(`verdict.${f.verdict}`)}</Label><div className="lw-subtle lw-cause">{f.verdict_text}</div></> },
        { key: "rto", label: t("column.rto"), isNumber: true, sortBy: (f) => f.rto_seconds, cell: (f) => (f.rto_seconds > 0 ? span(f.rto_seconds) : <span className="lw-subtle">–</span>) },
        { key: "loss", label: t("column.loss"), isNumber: true, sortBy: (f) => f.data_loss_seconds, cell: (f) => (f.kind === "test" ? <span className="lw-subtle">–</span> : span(f.data_loss_seconds)) },
        { key: "asked", label: t("column.asked"), sortBy: (f) => f.requested_at, cell: (f) => <><Moment at={f.requested_at} /><div className="lw-subtle">{f.requested_by}</div></> },
    ];
}

export function FailoversPage() {
    const { t } = useTranslation("failovers");
    const query = useQuery(failoversQuery);
    const may = useMay("operator");
    const navigate = useNavigate();
    const [ending, setEnding] = useState<{ act: End; failover: Failover }>();
    const actions = (f: Failover) => {
        const acts = actsFor(f);
        return <Flex columnGap={{ default: "columnGapMd" }}>{acts.map((act) => <Button key={act} variant="link" isInline isDanger={act === "commit" || act === "rollback"} onClick={() => (isEnd(act) ? setEnding({ act, failover: f }) : void navigate({ to: "/failovers/$failoverId/failback", params: { failoverId: f.id } }))}>{t(`act.${act}`)}</Button>)}</Flex>;
    };
    return (
        <>
            <ListPage<Failover>
                title={t("title")}
                text={t("text")}
                query={query}
                columns={useFailoverColumns()}
                rowId={(f) => f.id}
                rowName={(f) => f.machine_name}
                words={(f) => `${f.machine_name} ${f.target_name} ${t(`kind.${f.kind}`)} ${t(`state.${f.state}`)} ${f.requested_by} ${f.notes}`}
                sort="-asked"
                none={{ title: t("none"), text: t("noneText"), icon: RedoIcon }}
                headerActions={may && (
                    <Flex columnGap={{ default: "columnGapSm" }}>
                        <Button id="start-failover" component={(props) => <Link {...props} to="/failovers/new" />}>{t("start")}</Button>
                        <Button id="start-restore" variant="secondary" component={(props) => <Link {...props} to="/restore" />}>{t("restore")}</Button>
                    </Flex>
                )}
                rowActions={may ? actions : undefined}
            />
            {ending && <EndDialog {...ending} onClose={() => setEnding(undefined)} onBegun={(job) => void navigate({ to: "/jobs/$jobId", params: { jobId: job } })} />}
        </>
    );
}
