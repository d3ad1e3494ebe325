// SPDX-License-Identifier: Apache-2.0
//
// What a process node may send to vaults, or a vault may take from others for copies: in total, for each machine, and in working hours.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import type { Node, Vault } from "../../api/queries";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";

/** Limits are entered in kilobytes per second. */
const UNIT = 1000;
const rates = ["throttle_bytes_per_second", "machine_throttle_bytes_per_second", "work_hours_throttle_bytes_per_second"] as const;
type Rate = (typeof rates)[number];

export function PeerLimits({ kind, peer, onClose }: { kind: "node" | "vault"; peer: Node | Vault; onClose: () => void }) {
    const { t } = useTranslation("infrastructure");
    const client = useQueryClient();
    // The version that the form began with: the list is read again behind it every few seconds.
    const [began] = useState(peer);
    const [entered, setEntered] = useState<Record<Rate, string>>(() => Object.fromEntries(rates.map((key) => [key, String(began[key] / UNIT)])) as Record<Rate, string>);
    const [hours, setHours] = useState(began.work_hours);
    const [zone, setZone] = useState(began.work_hours_time_zone);
    const isWrong = (key: Rate) => entered[key] === "" || !(Number(entered[key]) >= 0);
    const mutation = useMutation({
        mutationFn: async () => {
            const body = { ...(Object.fromEntries(rates.map((key) => [key, Math.round(Number(entered[key]) * UNIT)])) as Record<Rate, number>), work_hours: hours, work_hours_time_zone: zone };
            if (kind === "node") await call(api.PATCH("/api/v1/nodes/{node_id}", { params: { path: { node_id: began.id }, header: ifMatch(began) }, body }));
            else await call(api.PATCH("/api/v1/vaults/{vault_id}", { params: { path: { vault_id: began.id }, header: ifMatch(began) }, body }));
        },
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: [kind === "node" ? "nodes" : "vaults"] });
            onClose();
        },
    });
    const rate = (key: Rate) => <Field key={key} id={key} type="number" label={t(kind === "vault" && key !== "work_hours_throttle_bytes_per_second" ? `limitOfVault.${key}` : `limit.${key}`)} hint={t(`limitHint.${key}`)} value={entered[key]} isWrong={isWrong(key)} onChange={(value) => setEntered({ ...entered, [key]: value })} />;
    return (
        <FormDialog title={t("limitsOf", { name: began.name })} submit={t("save")} isDisabled={rates.some(isWrong)} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            {rate("throttle_bytes_per_second")}
            {rate("machine_throttle_bytes_per_second")}
            <Field id="work-hours" label={t("limit.work_hours")} hint={t("limitHint.work_hours")} value={hours} onChange={setHours} />
            <Field id="work-hours-zone" label={t("limit.work_hours_time_zone")} hint={t("limitHint.work_hours_time_zone")} value={zone} onChange={setZone} />
            {rate("work_hours_throttle_bytes_per_second")}
        </FormDialog>
    );
}
