// SPDX-License-Identifier: Apache-2.0
//
// Making a site, changing its name and description, taking it away.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import type { Site } from "../../api/queries";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { Precheck } from "../../widgets/Precheck";

/** Whatever names a site is asked for again. */
function useSiteMutation(ask: () => Promise<unknown>, onClose: () => void) {
    const client = useQueryClient();
    return useMutation({
        mutationFn: ask,
        onSuccess: async () => {
            await client.invalidateQueries({ predicate: ({ queryKey }) => ["sites", "site-mapping", "nodes", "vaults", "machines", "machine"].includes(String(queryKey[0])) });
            onClose();
        },
    });
}

/** `site`: undefined for a new one. */
export function SiteForm({ site, onClose }: { site: Site | undefined; onClose: () => void }) {
    const { t } = useTranslation("infrastructure");
    // The version that the form began with: what is read again behind it must not let it overwrite what somebody else has changed.
    const [began] = useState(site);
    const [name, setName] = useState(site?.name ?? "");
    const [description, setDescription] = useState(site?.description ?? "");
    const body = { name, description };
    const mutation = useSiteMutation(
        () => (began ? call(api.PATCH("/api/v1/sites/{site_id}", { params: { path: { site_id: began.id }, header: ifMatch(began) }, body })) : call(api.POST("/api/v1/sites", { body }))),
        onClose,
    );
    return (
        <FormDialog title={began ? t("site.editOne", { name: began.name }) : t("site.add")} submit={t("save")} isDisabled={name === ""} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="site-name" label={t("column.name")} value={name} onChange={setName} isRequired />
            <Field id="site-description" label={t("column.description")} value={description} onChange={setDescription} />
        </FormDialog>
    );
}

export function DeleteSite({ site, onClose }: { site: Site; onClose: () => void }) {
    const { t } = useTranslation("infrastructure");
    const params = { path: { site_id: site.id }, header: ifMatch(site) };
    const check = useQuery({
        queryKey: ["site-check", site.id, site.etag],
        queryFn: async () => {
            await call(api.DELETE("/api/v1/sites/{site_id}", { params: { ...params, query: { dry_run: true } } }));
            return true;
        },
        retry: false,
        staleTime: 0,
        gcTime: 0,
    });
    const mutation = useSiteMutation(() => call(api.DELETE("/api/v1/sites/{site_id}", { params })), onClose);
    return (
        <FormDialog title={t("site.deleteOne", { name: site.name })} submit={t("site.delete")} isDanger isDisabled={!check.isSuccess} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Precheck check={check} component="h2" />
        </FormDialog>
    );
}
