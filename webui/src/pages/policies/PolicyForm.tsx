// SPDX-License-Identifier: Apache-2.0
//
// A policy: how often points are made, how long they are kept, and what that comes to.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import type { Policy } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { retentionOf } from "./retention";

const HOUR = 3600;
const DAY = 86_400;

/** Members of a policy that are spans, with the unit they are entered in. */
const spans = [
    { key: "interval_seconds", unit: 1, start: 1 },
    { key: "rpo_target_seconds", unit: 1, start: 15 },
    { key: "app_interval_seconds", unit: 60, start: 0 },
    { key: "keep_all_seconds", unit: HOUR, start: 24 },
    { key: "keep_minute_seconds", unit: DAY, start: 3 },
    { key: "keep_hour_seconds", unit: DAY, start: 14 },
    { key: "keep_day_seconds", unit: DAY, start: 90 },
    { key: "lock_seconds", unit: DAY, start: 0 },
] as const;
type Key = (typeof spans)[number]["key"];

function Preview({ values }: { values: Record<Key, number> }) {
    const { t } = useTranslation("policies");
    const { number, span } = useFormat();
    const tiers = retentionOf({ interval: values.interval_seconds, all: values.keep_all_seconds, minute: values.keep_minute_seconds, hour: values.keep_hour_seconds, day: values.keep_day_seconds });
    const total = tiers.reduce((sum, tier) => sum + tier.points, 0);
    return (
        <section aria-label={t("preview")} aria-live="polite">
            <strong>{t("preview")}</strong>
            <div className="lw-retention" aria-hidden="true">
                {tiers.map((tier) => <span key={tier.tier} className={`lw-retention-${tier.tier}`} style={{ flexGrow: Math.log10(10 + tier.until - tier.from) }} />)}
            </div>
            <ul className="lw-subtle">
                {tiers.map((tier) => <li key={tier.tier}>{t("tier", { every: span(tier.every), from: span(tier.from), until: span(tier.until), points: number(tier.points) })}</li>)}
            </ul>
            <p>{t("total", { count: total, number: number(total), span: span(tiers.at(-1)?.until ?? 0) })}</p>
        </section>
    );
}

export function PolicyForm({ policy, onClose }: { policy?: Policy; onClose: () => void }) {
    const { t } = useTranslation("policies");
    const client = useQueryClient();
    const [name, setName] = useState(policy?.name ?? "");
    const [description, setDescription] = useState(policy?.description ?? "");
    const [entered, setEntered] = useState<Record<Key, string>>(() => Object.fromEntries(spans.map(({ key, unit, start }) => [key, String(policy ? policy[key] / unit : start)])) as Record<Key, string>);
    const values = Object.fromEntries(spans.map(({ key, unit }) => [key, Number(entered[key]) * unit])) as Record<Key, number>;
    const isWrong = (key: Key) => entered[key] === "" || !(values[key] >= 0) || (key === "interval_seconds" && values[key] <= 0);
    const mutation = useMutation({
        mutationFn: async () => {
            const body = { name, description, ...values };
            if (!policy) await call(api.POST("/api/v1/policies", { body }));
            else await call(api.PATCH("/api/v1/policies/{policy_id}", { params: { path: { policy_id: policy.id }, header: ifMatch(policy) }, body }));
        },
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["policies"] });
            onClose();
        },
    });
    return (
        <FormDialog title={policy ? t("editOne", { name: policy.name }) : t("add")} submit={t("save")} isDisabled={!name || spans.some(({ key }) => isWrong(key))} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="policy-name" label={t("column.name")} value={name} onChange={setName} isRequired />
            <Field id="policy-description" label={t("description")} value={description} onChange={setDescription} />
            {spans.map(({ key }) => <Field key={key} id={key} type="number" label={t(`key.${key}`)} hint={t(`hint.${key}`)} value={entered[key]} isWrong={isWrong(key)} onChange={(value) => setEntered({ ...entered, [key]: value })} />)}
            <Preview values={values} />
        </FormDialog>
    );
}
