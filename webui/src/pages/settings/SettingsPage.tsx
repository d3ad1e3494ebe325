// SPDX-License-Identifier: Apache-2.0
//
// The settings of the hub. Every field is a number with a unit, but for the name of the site and the choice of what needs two people.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { ActionGroup, Form, FormFieldGroup, FormFieldGroupHeader } from "@patternfly/react-core/dist/dynamic/components/Form";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { type FourEyes, FourEyesChoice, SettingsProblem } from "./FourEyes";

type Settings = components["schemas"]["Settings"];
type Changes = components["schemas"]["SettingsPatch"];

const settingsQuery = queryOptions({ queryKey: ["settings"], queryFn: () => call(api.GET("/api/v1/settings")) });

const groups = [
    { name: "alerts", keys: ["alert_raise_after_seconds", "alert_clear_after_seconds", "alert_silent_seconds", "alert_clock_skew_seconds", "alert_full_warning_percent", "alert_full_critical_percent", "alert_full_forecast_days", "alert_certificate_days"] },
    { name: "sessions", keys: ["session_idle_seconds", "session_max_seconds"] },
    { name: "history", keys: ["event_keep_days"] },
] as const;
type Key = (typeof groups)[number]["keys"][number];

/** A setting that nobody has made is not there: its field is empty, and the hub's default holds. */
const shown = (settings: Settings, key: Key | "site_name") => (settings[key] === undefined ? "" : String(settings[key]));

/** What differs from what the hub has; a field that was emptied goes back to its default. */
function changesOf(settings: Settings, edited: Record<string, string>): Changes {
    return Object.fromEntries(Object.entries(edited).filter(([key, value]) => shown(settings, key as Key) !== value).map(([key, value]) => [key, value === "" ? null : key === "site_name" ? value : Number(value)]));
}

/** A number that the browser cannot read has an empty value, and is none that was emptied. */
const firstUnreadable = (form: HTMLFormElement) => [...form.querySelectorAll("input")].find((input) => input.validity.badInput);

function SettingsForm({ settings }: { settings: Settings }) {
    const { t } = useTranslation("settings");
    const client = useQueryClient();
    const may = useMay("admin");
    const [edited, setEdited] = useState<Record<string, string>>({});
    const [fourEyes, setFourEyes] = useState<FourEyes>();
    // The version that the form began with: what is read again behind it must not let it overwrite what somebody else has changed.
    const [began, setBegan] = useState<Settings>();
    const base = began ?? settings;
    const changes = changesOf(base, edited);
    const chosen = base.four_eyes ?? [];
    if (fourEyes && [...fourEyes].sort().join() !== [...chosen].sort().join()) changes.four_eyes = fourEyes;
    const isWrong = Object.values(changes).some((value) => typeof value === "number" && (Number.isNaN(value) || value < 0));
    const mutation = useMutation({
        mutationFn: () => call(api.PATCH("/api/v1/settings", { params: { header: ifMatch(base) }, body: changes, headers: { "Content-Type": "application/merge-patch+json" } })),
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["settings"] });
            forget();
        },
    });
    const forget = () => {
        setEdited({});
        setFourEyes(undefined);
        setBegan(undefined);
    };
    const edit = (key: Key | "site_name", value: string) => {
        setBegan(base);
        setEdited({ ...edited, [key]: value });
    };
    const toDefault = (key: Key | "site_name") => (
        <Button id={`default-${key}`} variant="link" isInline aria-label={t("toDefaultOf", { name: t(`key.${key}`) })} onClick={() => edit(key, "")}>{t("toDefault")}</Button>
    );
    const field = (key: Key | "site_name") => (
        <Field key={key} id={key} label={t(`key.${key}`)} type={key === "site_name" ? "text" : "number"} value={edited[key] ?? shown(base, key)} onChange={(value) => edit(key, value)} hint={t(`hint.${key}`)} labelInfo={may && (edited[key] ?? shown(base, key)) !== "" ? toDefault(key) : undefined} />
    );
    const save = (event: SyntheticEvent<HTMLFormElement>) => {
        event.preventDefault();
        const unreadable = firstUnreadable(event.currentTarget);
        if (unreadable) unreadable.reportValidity();
        else mutation.mutate();
    };
    const discard = async () => {
        await client.invalidateQueries({ queryKey: ["settings"] });
        mutation.reset();
        forget();
    };
    const isChanged = Object.keys(changes).length > 0;
    return (
        <Form onSubmit={save} aria-label={t("title")} isWidthLimited>
            {field("site_name")}
            {groups.map(({ name, keys }) => (
                <FormFieldGroup key={name} header={<FormFieldGroupHeader titleText={{ text: t(`group.${name}`), id: `group-${name}` }} />}>{keys.map(field)}</FormFieldGroup>
            ))}
            <FourEyesChoice chosen={fourEyes ?? chosen} isDisabled={!may} onChange={(wanted) => { setBegan(base); setFourEyes(wanted); }} />
            <SettingsProblem error={mutation.error} />
            {mutation.isSuccess && !isChanged && <Notice variant="success" isInline component="h2" title={t("saved")} />}
            {may && (
                <ActionGroup>
                    <Button id="save-settings" type="submit" isLoading={mutation.isPending} isDisabled={!isChanged || isWrong || mutation.isPending} spinnerAriaValueText={t("saving")}>{t("save")}</Button>
                    <Button id="discard-settings" variant="link" isDisabled={!isChanged || mutation.isPending} onClick={() => { void discard(); }}>{t("discard")}</Button>
                </ActionGroup>
            )}
        </Form>
    );
}

export function SettingsPage() {
    const { t } = useTranslation("settings");
    const { data, error } = useQuery(settingsQuery);
    return (
        <>
            <PageHeader title={t("title")} text={t("text")} />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={error} />
                {data ? <SettingsForm settings={data} /> : !error && <Skeleton height="16rem" screenreaderText={t("saving")} />}
            </PageSection>
        </>
    );
}
