// SPDX-License-Identifier: Apache-2.0
//
// What waits, or waited, for a second person. Who asked may take it back; another one decides, and what is approved is done at once.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { UsersIcon } from "@patternfly/react-icons/dist/dynamic/icons/users-icon";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, callAll } from "../../api/client";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import type { Column } from "../../widgets/DataTable";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";

type Approval = components["schemas"]["Approval"];

const approvalsQuery = queryOptions({
    queryKey: ["approvals"],
    queryFn: () => callAll((cursor) => api.GET("/api/v1/approvals", { params: { query: { limit: 500, cursor } } }), 1000),
    refetchInterval: 10_000,
});

const colors = { pending: "orange", approved: "green", rejected: "red", withdrawn: "grey", expired: "grey" } as const;

function useApprovalColumns(): Column<Approval>[] {
    const { t } = useTranslation("approvals");
    return [
        { key: "what", label: t("column.what"), width: 40, sortBy: (a) => a.summary, cell: (a) => <><strong>{a.summary}</strong>{a.note && <div className="lw-subtle">{a.note}</div>}</> },
        { key: "state", label: t("column.state"), sortBy: (a) => a.state, cell: (a) => <Label color={colors[a.state]} isCompact>{t(`state.${a.state}`)}</Label> },
        { key: "asked", label: t("column.asked"), sortBy: (a) => a.requested_by, cell: (a) => <>{a.requested_by}{a.mine && a.state === "pending" && <div className="lw-subtle">{t("mine")}</div>}</> },
        { key: "when", label: t("column.when"), sortBy: (a) => a.created_at, cell: (a) => <Moment at={a.created_at} /> },
        { key: "decided", label: t("column.decided"), sortBy: (a) => a.decided_by, cell: (a) => (a.decided_by ? <>{a.decided_by}<div className="lw-subtle"><Moment at={a.decided_at} /></div></> : <span className="lw-subtle">–</span>) },
    ];
}

function Decide({ approval, yes, onClose }: { approval: Approval; yes: boolean; onClose: () => void }) {
    const { t } = useTranslation("approvals");
    const client = useQueryClient();
    const [note, setNote] = useState("");
    const path = { approval_id: approval.id };
    const mutation = useMutation({
        mutationFn: () => (yes ? call(api.POST("/api/v1/approvals/{approval_id}/approve", { params: { path }, body: { note } })) : call(api.POST("/api/v1/approvals/{approval_id}/reject", { params: { path }, body: { note } }))),
        onSuccess: async () => {
            await client.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
            onClose();
        },
    });
    const word = yes ? t("approve") : approval.mine ? t("withdraw") : t("reject");
    return (
        <FormDialog title={word} text={t(yes ? "approveText" : "rejectText", { who: approval.requested_by, what: approval.summary })} submit={word} isDanger={yes} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="approval-note" label={t("note")} value={note} onChange={setNote} />
        </FormDialog>
    );
}

export function ApprovalsPage() {
    const { t } = useTranslation("approvals");
    const query = useQuery(approvalsQuery);
    const may = useMay("operator");
    const [deciding, setDeciding] = useState<{ approval: Approval; yes: boolean }>();
    const actions = (a: Approval) =>
        a.state === "pending" && (
            <Flex columnGap={{ default: "columnGapMd" }}>
                {!a.mine && <Button variant="link" isInline onClick={() => setDeciding({ approval: a, yes: true })}>{t("approve")}</Button>}
                <Button variant="link" isInline isDanger onClick={() => setDeciding({ approval: a, yes: false })}>{a.mine ? t("withdraw") : t("reject")}</Button>
            </Flex>
        );
    return (
        <>
            <ListPage<Approval> title={t("title")} text={t("text")} query={query} columns={useApprovalColumns()} rowId={(a) => a.id} rowName={(a) => a.summary} words={(a) => `${a.summary} ${a.requested_by} ${a.decided_by} ${t(`state.${a.state}`)}`} sort="-when" none={{ title: t("none"), text: t("noneText"), icon: UsersIcon }} rowActions={may ? actions : undefined} />
            {deciding && <Decide {...deciding} onClose={() => setDeciding(undefined)} />}
        </>
    );
}
