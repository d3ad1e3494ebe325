// SPDX-License-Identifier: Apache-2.0
//
// Another policy or site for all machines that are ticked. How many they are is on the button; each has its line afterwards.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { type Machine, policiesQuery, sitesQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { EachDialog, useNamesOf } from "../../widgets/EachDialog";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { AS_IT_IS, give, isEmpty, NO_SITE, wishOf } from "./bulkSettings";

export function BulkSettings({ machines: given, onClose }: { machines: Machine[]; onClose: (left?: Machine[]) => void }) {
    const { t } = useTranslation("machines");
    const { t: common } = useTranslation();
    const { number } = useFormat();
    const namesOf = useNamesOf();
    const [machines] = useState(given);
    const { data: policies = [] } = useQuery(policiesQuery);
    const { data: sites = [] } = useQuery(sitesQuery);
    const [policy, setPolicy] = useState(AS_IT_IS);
    const [site, setSite] = useState(AS_IT_IS);
    const wish = wishOf(policy, site);
    const bare = machines.filter((machine) => machine.policy_id === null).length;
    const asItIs = { value: AS_IT_IS, text: t("bulk.asItIs") };
    return (
        <EachDialog
            title={t("bulk.title")}
            text={t("bulk.text", { names: namesOf(machines) })}
            submit={t("bulk.submit", { count: machines.length, number: number(machines.length) })}
            isDisabled={isEmpty(wish)}
            thing="machine"
            items={machines}
            ask={(machine) => give(machine, wish)}
            showsAll={machines.length > 1}
            onClose={onClose}
        >
            <Field id="bulk-policy" label={t("column.policy")} value={policy} onChange={setPolicy} options={[asItIs, ...policies.map((one) => ({ value: one.id, text: one.name }))]} />
            <Field id="bulk-site" label={t("column.site")} value={site} onChange={setSite} options={[asItIs, { value: NO_SITE, text: common("site.none") }, ...sites.map((one) => ({ value: one.id, text: one.name }))]} />
            {policy !== AS_IT_IS && bare > 0 && <Notice variant="warning" isInline isPlain component="p" title={t("bulk.bare", { count: bare, number: number(bare) })} />}
        </EachDialog>
    );
}
