// SPDX-License-Identifier: Apache-2.0
//
// What happened (events), and who did what (the audit log).
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { ListIcon } from "@patternfly/react-icons/dist/dynamic/icons/list-icon";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { api, callAll } from "../../api/client";
import type { components } from "../../api/schema";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { ListPage } from "../../widgets/ListPage";
import { Switch } from "../../widgets/Switch";
import { EventText } from "../../words/EventText";
import { useWords } from "../../words/useWords";

type HubEvent = components["schemas"]["Event"];
type AuditRecord = components["schemas"]["AuditRecord"];

/** The latest: older ones are asked for by the command and the API. */
const MOST = 1000;

const eventsQuery = queryOptions({
    queryKey: ["events"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/events", { params: { query: { limit: 500, cursor, sort: "-seq" } } }), MOST),
});
const auditQuery = queryOptions({
    queryKey: ["audit"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/audit", { params: { query: { limit: 500, cursor, sort: "-seq" } } }), MOST),
    refetchInterval: 10_000,
});

const colors = { info: "blue", warning: "orange", error: "red" } as const;

function Above({ show }: { show: string }) {
    const { t } = useTranslation("events");
    return <Switch label={t("show.label")} value={show} options={(["events", "audit"] as const).map((value) => ({ value, text: t(`show.${value}`) }))} />;
}

function Events() {
    const { t } = useTranslation("events");
    const { moment } = useFormat();
    const query = useQuery(eventsQuery);
    const { event: wordsOf } = useWords();
    const columns: Column<HubEvent>[] = [
        { key: "seq", label: t("column.at"), width: 20, sortBy: (e) => e.seq, cell: (e) => <time dateTime={e.at}>{moment(e.at)}</time> },
        { key: "severity", label: t("column.severity"), width: 10, sortBy: (e) => ["error", "warning", "info"].indexOf(e.severity), cell: (e) => <Label color={colors[e.severity]} isCompact>{t(`severity.${e.severity}`)}</Label> },
        { key: "text", label: t("column.text"), width: 40, cell: (e) => <EventText event={e} /> },
        { key: "machine", label: t("column.machine"), sortBy: (e) => e.machine_name, cell: (e) => e.machine_name ?? <span className="lw-subtle">–</span> },
        { key: "job", label: t("column.job"), cell: (e) => (e.job_id ? <Link to="/jobs/$jobId" params={{ jobId: e.job_id }} className="lw-link">{t("column.job")}</Link> : <span className="lw-subtle">–</span>) },
    ];
    return (
        <ListPage<HubEvent>
            title={t("title")}
            text={t("text")}
            query={query}
            columns={columns}
            rowId={(e) => String(e.seq)}
            rowName={(e) => wordsOf(e).text}
            words={(e) => `${wordsOf(e).text} ${e.text} ${e.code} ${e.machine_name ?? ""} ${t(`severity.${e.severity}`)} ${e.actor ?? ""}`}
            sort="-seq"
            none={{ title: t("none"), text: t("noneText"), icon: ListIcon }}
            above={<Above show="events" />}
        />
    );
}

function Audit() {
    const { t } = useTranslation("events");
    const { moment } = useFormat();
    const query = useQuery(auditQuery);
    const columns: Column<AuditRecord>[] = [
        { key: "seq", label: t("column.at"), width: 20, sortBy: (a) => a.seq, cell: (a) => <time dateTime={a.at}>{moment(a.at)}</time> },
        { key: "actor", label: t("column.actor"), sortBy: (a) => a.actor, cell: (a) => a.actor },
        { key: "action", label: t("column.action"), sortBy: (a) => a.action, cell: (a) => a.action },
        { key: "object", label: t("column.object"), width: 20, sortBy: (a) => a.object_kind, cell: (a) => <>{a.object_kind}<div className="lw-subtle lw-cause">{a.object_id}</div></> },
        { key: "outcome", label: t("column.outcome"), sortBy: (a) => a.outcome, cell: (a) => a.outcome },
        { key: "address", label: t("column.address"), sortBy: (a) => a.address, cell: (a) => a.address },
    ];
    return (
        <ListPage<AuditRecord>
            title={t("title")}
            text={t("auditText")}
            query={query}
            columns={columns}
            rowId={(a) => String(a.seq)}
            rowName={(a) => a.action}
            words={(a) => `${a.actor} ${a.action} ${a.object_kind} ${a.object_id} ${a.outcome} ${a.address} ${a.request_id}`}
            sort="-seq"
            none={{ title: t("none"), text: t("noneText"), icon: ListIcon }}
            above={<Above show="audit" />}
        />
    );
}

export function EventsPage() {
    return useSearch({ from: "/shell/events" }).show === "audit" ? <Audit /> : <Events />;
}
