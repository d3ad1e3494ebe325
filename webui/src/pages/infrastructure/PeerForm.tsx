// SPDX-License-Identifier: Apache-2.0
//
// Name and site of a process node or a vault.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import type { Node, Vault } from "../../api/queries";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { SiteField } from "../../widgets/SiteField";

export function PeerForm({ kind, peer, onClose }: { kind: "node" | "vault"; peer: Node | Vault; onClose: () => void }) {
    const { t } = useTranslation("infrastructure");
    const client = useQueryClient();
    const [began] = useState(peer);
    const [name, setName] = useState(peer.name);
    const [site, setSite] = useState(peer.site_id ?? "");
    const mutation = useMutation({
        mutationFn: async () => {
            const body = { name, site_id: site || null };
            if (kind === "node") await call(api.PATCH("/api/v1/nodes/{node_id}", { params: { path: { node_id: began.id }, header: ifMatch(began) }, body }));
            else await call(api.PATCH("/api/v1/vaults/{vault_id}", { params: { path: { vault_id: began.id }, header: ifMatch(began) }, body }));
        },
        onSuccess: async () => {
            await client.invalidateQueries({ predicate: ({ queryKey }) => ["nodes", "vaults", "machines", "machine", "overview"].includes(String(queryKey[0])) });
            onClose();
        },
    });
    return (
        <FormDialog title={t("editOne", { name: began.name })} submit={t("save")} isDisabled={name === ""} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="peer-name" label={t("column.name")} value={name} onChange={setName} isRequired />
            <SiteField value={site} onChange={setSite} />
        </FormDialog>
    );
}
