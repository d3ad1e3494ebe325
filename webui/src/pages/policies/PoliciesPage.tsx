// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { CatalogIcon } from "@patternfly/react-icons/dist/dynamic/icons/catalog-icon";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import { policiesQuery, type Policy } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import type { Column } from "../../widgets/DataTable";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import { PolicyForm } from "./PolicyForm";
import { retentionOf } from "./retention";

function usePolicyColumns(): Column<Policy>[] {
    const { t } = useTranslation("policies");
    const { span, number } = useFormat();
    const reach = (p: Policy) => p.keep_all_seconds + p.keep_minute_seconds + p.keep_hour_seconds + p.keep_day_seconds;
    const count = (p: Policy) => retentionOf({ interval: p.interval_seconds, all: p.keep_all_seconds, minute: p.keep_minute_seconds, hour: p.keep_hour_seconds, day: p.keep_day_seconds }).reduce((sum, tier) => sum + tier.points, 0);
    return [
        { key: "name", label: t("column.name"), width: 25, sortBy: (p) => p.name, cell: (p) => <><strong>{p.name}</strong> {p.is_default && <Label isCompact color="blue">{t("default")}</Label>}<div className="lw-subtle">{p.description}</div></> },
        { key: "interval", label: t("column.interval"), isNumber: true, sortBy: (p) => p.interval_seconds, cell: (p) => span(p.interval_seconds) },
        { key: "target", label: t("column.target"), isNumber: true, sortBy: (p) => p.rpo_target_seconds, cell: (p) => span(p.rpo_target_seconds) },
        { key: "reach", label: t("column.reach"), isNumber: true, sortBy: reach, cell: (p) => span(reach(p)) },
        { key: "points", label: t("column.points"), isNumber: true, sortBy: count, cell: (p) => number(count(p)) },
        { key: "lock", label: t("column.lock"), isNumber: true, sortBy: (p) => p.lock_seconds, cell: (p) => (p.lock_seconds ? span(p.lock_seconds) : <span className="lw-subtle">–</span>) },
        { key: "machines", label: t("column.machines"), isNumber: true, sortBy: (p) => p.machine_count, cell: (p) => <Link to="/machines" search={{ policy: p.id }} className="lw-link">{number(p.machine_count)}</Link> },
    ];
}

export function PoliciesPage() {
    const { t } = useTranslation("policies");
    const client = useQueryClient();
    const may = useMay("admin");
    const query = useQuery(policiesQuery);
    const [editing, setEditing] = useState<Policy | "new">();
    const [removing, setRemoving] = useState<Policy>();
    const remove = useMutation({
        mutationFn: (p: Policy) => call(api.DELETE("/api/v1/policies/{policy_id}", { params: { path: { policy_id: p.id }, header: ifMatch(p) } })),
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["policies"] });
            setRemoving(undefined);
        },
    });
    const actions = (p: Policy) => (
        <Flex columnGap={{ default: "columnGapMd" }}>
            <Button variant="link" isInline onClick={() => setEditing(p)}>{t("edit")}</Button>
            {!p.is_default && p.machine_count === 0 && <Button variant="link" isInline isDanger onClick={() => setRemoving(p)}>{t("delete")}</Button>}
        </Flex>
    );
    return (
        <>
            <ListPage<Policy> title={t("title")} text={t("text")} query={query} columns={usePolicyColumns()} rowId={(p) => p.id} rowName={(p) => p.name} words={(p) => `${p.name} ${p.description}`} sort="name" none={{ title: t("none"), text: t("text"), icon: CatalogIcon }} headerActions={may && <Button id="add-policy" onClick={() => setEditing("new")}>{t("add")}</Button>} rowActions={may ? actions : undefined} />
            {editing && <PolicyForm policy={editing === "new" ? undefined : editing} onClose={() => setEditing(undefined)} />}
            {removing && <FormDialog title={t("deleteOne", { name: removing.name })} submit={t("delete")} isDanger mutation={remove} onSubmit={() => remove.mutate(removing)} onClose={() => setRemoving(undefined)} />}
        </>
    );
}
