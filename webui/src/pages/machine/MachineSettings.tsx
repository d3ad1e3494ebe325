// SPDX-License-Identifier: Apache-2.0
//
// What a machine is called, the policy that it follows and the site that it stands at.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import { type Machine, policiesQuery } from "../../api/queries";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { SiteField } from "../../widgets/SiteField";

export function MachineSettings({ machine, onClose }: { machine: Machine; onClose: () => void }) {
    const { t } = useTranslation("machine");
    const client = useQueryClient();
    const { data: policies = [] } = useQuery(policiesQuery);
    // The version that the form began with: the machine is read again behind it every few seconds.
    const [began] = useState(machine);
    const [name, setName] = useState(machine.name);
    const [policy, setPolicy] = useState(machine.policy_id ?? "");
    const [site, setSite] = useState(machine.site_id ?? "");
    const body = { name, site_id: site || null, ...(policy && { policy_id: policy }) };
    const mutation = useMutation({
        mutationFn: () => call(api.PATCH("/api/v1/machines/{machine_id}", { params: { path: { machine_id: began.id }, header: ifMatch(began) }, body })),
        onSuccess: async () => {
            await client.invalidateQueries({ predicate: ({ queryKey }) => ["machines", "machine", "policies"].includes(String(queryKey[0])) });
            onClose();
        },
    });
    const choices = policies.map((one) => ({ value: one.id, text: one.name }));
    return (
        <FormDialog title={t("settings.title", { name: began.name })} submit={t("settings.save")} isDisabled={name === ""} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="machine-name" label={t("settings.name")} value={name} onChange={setName} isRequired />
            <Field id="machine-policy" label={t("fact.policy")} hint={t("settings.policyHint")} value={policy} onChange={setPolicy} options={policy ? choices : [{ value: "", text: "–" }, ...choices]} />
            <SiteField value={site} onChange={setSite} />
        </FormDialog>
    );
}
