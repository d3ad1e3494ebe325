// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { KeyIcon } from "@patternfly/react-icons/dist/dynamic/icons/key-icon";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import type { Column } from "../../widgets/DataTable";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";
import { type AccessRole, ROLES, type Token, tokensQuery } from "./accessQueries";
import { Secret, type ShownSecret } from "./Secret";

const DAY = 86_400;

function AddToken({ onClose, onMade }: { onClose: () => void; onMade: (made: ShownSecret) => void }) {
    const { t } = useTranslation("access");
    const { t: common } = useTranslation();
    const client = useQueryClient();
    const [name, setName] = useState("");
    const [role, setRole] = useState<AccessRole>("operator");
    const [days, setDays] = useState("90");
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/tokens", { body: { name, role, ...(days !== "" && { expires_in_seconds: Number(days) * DAY }) } })),
        onSuccess: async (made) => {
            await client.invalidateQueries({ queryKey: ["tokens"] });
            onClose();
            onMade({ title: t("tokenOf", { name: made.name }), secret: made.token });
        },
    });
    return (
        <FormDialog title={t("addToken")} submit={t("addToken")} isDisabled={!name || Number.isNaN(Number(days))} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="token-name" label={t("column.name")} value={name} onChange={setName} isRequired hint={t("tokenNameHint")} />
            <Field id="token-role" label={t("column.role")} value={role} onChange={(value) => setRole(value as AccessRole)} options={ROLES.map((value) => ({ value, text: common(`role.${value}`) }))} hint={t(`roleHint.${role}`)} />
            <Field id="token-days" label={t("days")} type="number" value={days} onChange={setDays} hint={t("daysHint")} />
        </FormDialog>
    );
}

function useTokenColumns(): Column<Token>[] {
    const { t } = useTranslation("access");
    const { t: common } = useTranslation();
    const isOver = (token: Token) => token.revoked_at !== null || (token.expires_at !== null && new Date(token.expires_at) < new Date());
    return [
        { key: "name", label: t("column.name"), width: 25, sortBy: (x) => x.name, cell: (x) => <strong>{x.name}</strong> },
        { key: "role", label: t("column.role"), sortBy: (x) => ROLES.indexOf(x.role), cell: (x) => <>{common(`role.${x.role}`)}{x.scopes.length > 0 && <div className="lw-subtle">{x.scopes.join(", ")}</div>}</> },
        { key: "state", label: t("column.state"), sortBy: (x) => String(isOver(x)), cell: (x) => <Label color={isOver(x) ? "grey" : "green"} isCompact>{x.revoked_at ? t("revoked") : isOver(x) ? t("expired") : t("valid")}</Label> },
        { key: "expires", label: t("column.expires"), sortBy: (x) => x.expires_at, cell: (x) => <Moment at={x.expires_at} /> },
        { key: "used", label: t("column.used"), sortBy: (x) => x.last_used_at, cell: (x) => <Moment at={x.last_used_at} /> },
        { key: "by", label: t("column.by"), sortBy: (x) => x.created_by, cell: (x) => x.created_by },
    ];
}

export function Tokens({ above }: { above: ReactNode }) {
    const { t } = useTranslation("access");
    const client = useQueryClient();
    const query = useQuery(tokensQuery);
    const [adding, setAdding] = useState(false);
    const [made, setMade] = useState<ShownSecret>();
    const [revoking, setRevoking] = useState<Token>();
    const revoke = useMutation({
        mutationFn: (token: Token) => call(api.DELETE("/api/v1/tokens/{token_id}", { params: { path: { token_id: token.id } } })),
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["tokens"] });
            setRevoking(undefined);
        },
    });
    return (
        <>
            <ListPage<Token> title={t("title")} text={t("tokensText")} query={query} columns={useTokenColumns()} rowId={(x) => x.id} rowName={(x) => x.name} words={(x) => `${x.name} ${x.role} ${x.created_by} ${x.scopes.join(" ")}`} sort="name" none={{ title: t("none"), text: t("tokensText"), icon: KeyIcon }} headerActions={<Button id="add-token" onClick={() => setAdding(true)}>{t("addToken")}</Button>} rowActions={(x) => x.revoked_at === null && <Button variant="link" isInline isDanger onClick={() => setRevoking(x)}>{t("revoke")}</Button>} above={above} />
            {adding && <AddToken onClose={() => setAdding(false)} onMade={setMade} />}
            {made && <Secret {...made} onClose={() => setMade(undefined)} />}
            {revoking && <FormDialog title={t("revokeToken", { name: revoking.name })} text={t("revokeText")} submit={t("revoke")} isDanger mutation={revoke} onSubmit={() => revoke.mutate(revoking)} onClose={() => setRevoking(undefined)} />}
        </>
    );
}
