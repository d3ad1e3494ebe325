// SPDX-License-Identifier: Apache-2.0
//
// Beginning a copy, ending it, and letting it take the place of a vault that is lost. The hub is asked first whether it would do it.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { type Machine, type Vault, vaultsQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { Notice } from "../../widgets/Notice";
import { Precheck } from "../../widgets/Precheck";
import { type Copy, createCheck, removeCheck, takeOverCheck } from "./copyQueries";

/** What a copy's job changes is asked for again; the header shows the job. */
function useCopyMutation<T>(ask: (wish: T) => Promise<unknown>, onClose: () => void) {
    const client = useQueryClient();
    return useMutation({
        mutationFn: ask,
        onSuccess: async () => {
            await client.invalidateQueries({ predicate: ({ queryKey }) => ["machines", "machine", "vaults", "jobs"].includes(String(queryKey[0])) });
            onClose();
        },
    });
}

/** Vaults to choose from; one that cannot take anything now is shown, and why. */
export function useVaultOptions(vaults: readonly Vault[]) {
    const { t } = useTranslation("copies");
    const { bytes } = useFormat();
    const textOf = (vault: Vault) => [vault.name, vault.site_name, vault.online ? t("free", { size: bytes(vault.free_bytes) }) : t("away")].filter(Boolean).join(" · ");
    return vaults.map((vault) => ({ value: vault.id, text: textOf(vault), isDisabled: !vault.online }));
}

export function CreateCopy({ machine, copies, onClose }: { machine: Machine; copies: Copy[]; onClose: () => void }) {
    const { t } = useTranslation("copies");
    const { data: vaults } = useQuery(vaultsQuery);
    const others = (vaults ?? []).filter((vault) => vault.id !== machine.vault_id && !vault.simulated && !copies.some((copy) => copy.vault_id === vault.id));
    const options = useVaultOptions(others);
    const [chosen, setChosen] = useState("");
    const vault = chosen || (others.find((one) => one.online)?.id ?? "");
    const check = useQuery({ ...createCheck(machine.id, vault), enabled: vault !== "" });
    const create = useCopyMutation((to: string) => call(api.POST("/api/v1/machines/{machine_id}/copies", { params: { path: { machine_id: machine.id } }, body: { vault: to } })), onClose);
    return (
        <FormDialog title={t("create.title", { name: machine.name })} text={t("create.text")} submit={t("create.button")} isDisabled={!check.isSuccess} mutation={create} onSubmit={() => create.mutate(vault)} onClose={onClose}>
            {vaults && others.length === 0 ? (
                <Notice variant="info" isInline component="h2" title={t("create.noVault")}><p>{t("create.noVaultText")}</p></Notice>
            ) : (
                <Field id="copy-vault" label={t("create.vault")} hint={t("create.vaultHint")} value={vault} onChange={setChosen} options={vault ? options : [{ value: "", text: t("create.choose") }, ...options]} />
            )}
            {vault !== "" && <Precheck check={check} component="h2" />}
        </FormDialog>
    );
}

export function UseCopy({ copy, onClose }: { copy: Copy; onClose: () => void }) {
    const { t } = useTranslation("copies");
    const { t: failovers } = useTranslation("failovers");
    const { moment, span, number } = useFormat();
    const [typed, setTyped] = useState("");
    const check = useQuery(takeOverCheck(copy));
    const use = useCopyMutation((confirm: string) => call(api.POST("/api/v1/machines/{machine_id}/copies/{vault_id}/use", { params: { path: { machine_id: copy.machine_id, vault_id: copy.vault_id } }, body: { confirm } })), onClose);
    const what = { name: copy.machine_name, lost: copy.source_vault_name, vault: copy.vault_name };
    return (
        <FormDialog title={t("use.title", what)} text={t("use.text", what)} submit={t("use.button")} isDanger isDisabled={!check.isSuccess || typed !== copy.machine_name} mutation={use} onSubmit={() => use.mutate(typed)} onClose={onClose}>
            <Notice variant="warning" isInline component="h2" title={copy.point_time ? t("use.newest", { number: number(copy.source_sequence), time: moment(copy.point_time) }) : t("use.noPoint")}>
                <p>{copy.behind_seconds > 0 ? t("use.lostOf", { span: span(copy.behind_seconds) }) : t("use.lost")}</p>
            </Notice>
            <Precheck check={check} component="h2" />
            <Field id="typed" label={failovers("typeName", { name: copy.machine_name })} value={typed} onChange={setTyped} isRequired />
        </FormDialog>
    );
}

/** A vault that does not answer erases when it is back; one that never will be is forgotten. */
export function RemoveCopy({ copy, isAway, onClose }: { copy: Copy; isAway: boolean; onClose: () => void }) {
    const { t } = useTranslation("copies");
    const [forget, setForget] = useState(false);
    const check = useQuery(removeCheck(copy, forget));
    const remove = useCopyMutation((forgotten: boolean) => call(api.DELETE("/api/v1/machines/{machine_id}/copies/{vault_id}", { params: { path: { machine_id: copy.machine_id, vault_id: copy.vault_id }, query: { forget: forgotten } } })), onClose);
    const what = { name: copy.machine_name, vault: copy.vault_name };
    return (
        <FormDialog title={t("remove.title", what)} text={t("remove.text", what)} submit={t("remove.button")} isDanger isDisabled={!check.isSuccess} mutation={remove} onSubmit={() => remove.mutate(forget)} onClose={onClose}>
            {isAway && <Checkbox id="copy-forget" label={t("remove.forget")} description={t("remove.forgetText", what)} isChecked={forget} onChange={(_event, on) => setForget(on)} />}
            <Precheck check={check} component="h2" />
        </FormDialog>
    );
}
