// SPDX-License-Identifier: Apache-2.0
//
// What replicas of a site's machines get at a target where their own mappings do not say.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import type { Site } from "../../api/queries";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import { FormDialog } from "../../widgets/FormDialog";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { entryOf, isEntered, patchOf } from "./mapping";
import { MappingFields } from "./MappingFields";

function SiteForm({ mapping, onClose }: { mapping: components["schemas"]["SiteMapping"]; onClose: () => void }) {
    const { t } = useTranslation("mapping");
    const client = useQueryClient();
    const mayAct = useMay("admin");
    // The version that the form began with: what is read again behind it must not let it overwrite what somebody else has changed.
    const [began] = useState(mapping);
    const [entry, setEntry] = useState(() => entryOf(began));
    const mutation = useMutation({
        mutationFn: async () => {
            await call(api.PATCH("/api/v1/sites/{site_id}/mapping", { params: { path: { site_id: began.site_id }, header: ifMatch(began) }, body: patchOf(entry), headers: { "Content-Type": "application/merge-patch+json" } }));
        },
        onSuccess: async () => {
            // What it comes to for each machine of the site is another thing now.
            await client.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] === "sites" || queryKey.includes("mapping") });
            onClose();
        },
    });
    return (
        <FormDialog title={t("titleOfSite", { site: began.site_name })} text={t("siteText")} submit={t("save")} isDisabled={!mayAct || !isEntered(entry)} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <fieldset disabled={!mayAct} className="lw-mapping">
                <MappingFields entry={entry} ofSite onChange={setEntry} />
            </fieldset>
        </FormDialog>
    );
}

/** The dialog, once the hub has told what there is: what is shown is what is changed. */
export function SiteMapping({ site, onClose }: { site: Site; onClose: () => void }) {
    const { data, error } = useQuery({
        queryKey: ["site-mapping", site.id, "mapping"],
        queryFn: () => call(api.GET("/api/v1/sites/{site_id}/mapping", { params: { path: { site_id: site.id } } })),
        staleTime: 0,
        gcTime: 0,
    });
    if (data) return <SiteForm mapping={data} onClose={onClose} />;
    return <ProblemAlert error={error} />;
}
