// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { PluggedIcon } from "@patternfly/react-icons/dist/dynamic/icons/plugged-icon";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import type { Column } from "../../widgets/DataTable";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";
import { type EnrolmentToken, enrolmentQuery, PEERS } from "./accessQueries";
import { Secret, type ShownSecret } from "./Secret";

type Peer = EnrolmentToken["role"];
/** Where the hub takes enrolments unless it was told otherwise. */
const CONTROL_PORT = 9442;

function AddEnrolment({ onClose, onMade }: { onClose: () => void; onMade: (made: ShownSecret) => void }) {
    const { t } = useTranslation("access");
    const client = useQueryClient();
    const [role, setRole] = useState<Peer>("agent");
    const [name, setName] = useState("");
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/enrolment-tokens", { body: { role, ...(name && { name }) } })),
        onSuccess: async (made) => {
            await client.invalidateQueries({ queryKey: ["enrolment"] });
            onClose();
            onMade({ title: t(`peer.${role}`), secret: made.token, command: `leeward-${role} --hub ${location.hostname}:${CONTROL_PORT} --token ${made.token}` });
        },
    });
    return (
        <FormDialog title={t("addEnrolment")} submit={t("addEnrolment")} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="enrol-role" label={t("column.for")} value={role} onChange={(value) => setRole(value as Peer)} options={PEERS.map((value) => ({ value, text: t(`peer.${value}`) }))} />
            <Field id="enrol-name" label={t("column.name")} value={name} onChange={setName} hint={t("enrolNameHint")} />
        </FormDialog>
    );
}

function useEnrolmentColumns(): Column<EnrolmentToken>[] {
    const { t } = useTranslation("access");
    const stateOf = (x: EnrolmentToken) => (x.used_at ? "used" : x.revoked_at ? "revoked" : x.expires_at && new Date(x.expires_at) < new Date() ? "expired" : "valid");
    return [
        { key: "role", label: t("column.for"), width: 20, sortBy: (x) => x.role, cell: (x) => t(`peer.${x.role}`) },
        { key: "name", label: t("column.name"), sortBy: (x) => x.name, cell: (x) => x.name || <span className="lw-subtle">–</span> },
        { key: "state", label: t("column.state"), sortBy: stateOf, cell: (x) => <Label color={stateOf(x) === "valid" ? "green" : "grey"} isCompact>{t(stateOf(x))}</Label> },
        { key: "expires", label: t("column.expires"), sortBy: (x) => x.expires_at, cell: (x) => <Moment at={x.expires_at} /> },
        { key: "used", label: t("column.used"), sortBy: (x) => x.used_at, cell: (x) => <Moment at={x.used_at} /> },
        { key: "by", label: t("column.by"), sortBy: (x) => x.created_by, cell: (x) => x.created_by },
    ];
}

export function Enrolment({ above }: { above: ReactNode }) {
    const { t } = useTranslation("access");
    const query = useQuery(enrolmentQuery);
    const [adding, setAdding] = useState(false);
    const [made, setMade] = useState<ShownSecret>();
    return (
        <>
            <ListPage<EnrolmentToken> title={t("title")} text={t("enrolmentText")} query={query} columns={useEnrolmentColumns()} rowId={(x) => x.id} rowName={(x) => x.name} words={(x) => `${x.role} ${x.name} ${x.created_by}`} sort="-expires" none={{ title: t("none"), text: t("enrolmentText"), icon: PluggedIcon }} headerActions={<Button id="add-enrolment" onClick={() => setAdding(true)}>{t("addEnrolment")}</Button>} above={above} />
            {adding && <AddEnrolment onClose={() => setAdding(false)} onMade={setMade} />}
            {made && <Secret {...made} onClose={() => setMade(undefined)} />}
        </>
    );
}
