// SPDX-License-Identifier: Apache-2.0
//
// Consistency groups: machines whose points are of one moment.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { LinkIcon } from "@patternfly/react-icons/dist/dynamic/icons/link-icon";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, callAll } from "../../api/client";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { HealthLabel } from "../../widgets/labels";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { useCause } from "../../words/useWords";

type Group = components["schemas"]["Group"];

const groupsQuery = queryOptions({ queryKey: ["groups"], queryFn: () => callAll((cursor) => api.GET("/api/v1/groups", { params: { query: { limit: 500, cursor } } })), refetchInterval: 5000 });

function useGroupColumns(): Column<Group>[] {
    const { t } = useTranslation("groups");
    const { number, span } = useFormat();
    const causeOf = useCause();
    return [
        { key: "name", label: t("column.name"), width: 20, sortBy: (g) => g.name, cell: (g) => <><strong>{g.name}</strong><div className="lw-subtle">{g.description}</div></> },
        { key: "health", label: t("column.health"), width: 20, sortBy: (g) => g.health, cell: (g) => <><HealthLabel health={g.health} />{g.cause && <div className="lw-subtle lw-cause">{causeOf(g).cause}</div>}{g.cause_code && <div className="lw-subtle lw-cause">{t("remedy")} {causeOf(g).remedy}</div>}</> },
        { key: "members", label: t("column.members"), width: 25, sortBy: (g) => g.member_count, cell: (g) => <span className="lw-cause">{g.members.map((m) => m.machine_name).join(", ")}</span> },
        { key: "interval", label: t("column.interval"), isNumber: true, sortBy: (g) => g.interval_seconds, cell: (g) => (g.interval_seconds ? span(g.interval_seconds) : t("asked")) },
        { key: "last", label: t("column.last"), sortBy: (g) => g.last_point_at, cell: (g) => <Moment at={g.last_point_at} /> },
        { key: "missed", label: t("column.missed"), isNumber: true, sortBy: (g) => g.missed, cell: (g) => number(g.missed) },
    ];
}

function Add({ onClose }: { onClose: () => void }) {
    const { t } = useTranslation("groups");
    const client = useQueryClient();
    const [name, setName] = useState("");
    const [machines, setMachines] = useState("");
    const [interval, setInterval] = useState("60");
    const members = machines.split(",").map((member) => member.trim()).filter(Boolean); // names may have blanks
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/groups", { body: { name, machines: members, interval_seconds: Number(interval) } })),
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["groups"] });
            onClose();
        },
    });
    return (
        <FormDialog title={t("add")} submit={t("add")} isDisabled={!name || Number.isNaN(Number(interval))} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="group-name" label={t("column.name")} value={name} onChange={setName} isRequired />
            <Field id="group-machines" label={t("column.members")} value={machines} onChange={setMachines} hint={t("membersHint")} />
            <Field id="group-interval" label={t("intervalSeconds")} type="number" value={interval} onChange={setInterval} hint={t("intervalHint")} />
        </FormDialog>
    );
}

export function GroupsPage() {
    const { t } = useTranslation("groups");
    const navigate = useNavigate();
    const may = useMay("operator");
    const query = useQuery(groupsQuery);
    const [adding, setAdding] = useState(false);
    const point = useMutation({
        mutationFn: (group: Group) => call(api.POST("/api/v1/groups/{group_id}/points", { params: { path: { group_id: group.id } } })),
        onSuccess: (job) => void navigate({ to: "/jobs/$jobId", params: { jobId: job.id } }),
    });
    return (
        <>
            <ListPage<Group> title={t("title")} text={t("text")} query={query} columns={useGroupColumns()} rowId={(g) => g.id} rowName={(g) => g.name} words={(g) => `${g.name} ${g.description} ${g.members.map((m) => m.machine_name).join(" ")}`} sort="name" none={{ title: t("none"), text: t("noneText"), icon: LinkIcon }} headerActions={may && <Button id="add-group" onClick={() => setAdding(true)}>{t("add")}</Button>} rowActions={may ? (g) => <Button variant="link" isInline isDisabled={point.isPending || g.member_count < 2} onClick={() => point.mutate(g)}>{t("point")}</Button> : undefined} above={<ProblemAlert error={point.error} />} />
            {adding && <Add onClose={() => setAdding(false)} />}
        </>
    );
}
