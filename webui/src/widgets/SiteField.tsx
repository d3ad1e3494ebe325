// SPDX-License-Identifier: Apache-2.0
//
// The site that something belongs to, or none.
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";

import { sitesQuery } from "../api/queries";
import { Field } from "./Field";

/** `value`: id of the site; "": none. */
export function SiteField({ value, onChange }: { value: string; onChange: (site: string) => void }) {
    const { t } = useTranslation();
    const { data: sites = [] } = useQuery(sitesQuery);
    return <Field id="site" label={t("site.label")} value={value} onChange={onChange} options={[{ value: "", text: t("site.none") }, ...sites.map((site) => ({ value: site.id, text: site.name }))]} />;
}
