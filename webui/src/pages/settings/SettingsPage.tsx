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

import { api, call } from "../../api/client";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import { Field } from "../../widgets/Field";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { type FourEyes, FourEyesChoice, SettingsProblem } from "./FourEyes";

type Settings = components["schemas"]["Settings"];

const settingsQuery = queryOptions({ queryKey: ["settings"], queryFn: () => call(api.GET("/api/v1/settings")) });

const groups = [
    { name: "alerts", keys: ["alert_raise_after_seconds", "alert_clear_after_seconds", "alert_silent_seconds", "alert_clock_skew_seconds", "alert_full_warning_percent", "alert_full_critical_percent", "alert_full_forecast_days", "alert_certificate_days"] },
    { name: "sessions", keys: ["session_idle_seconds", "session_max_seconds"] },
    { name: "history", keys: ["event_keep_days"] },
] as const;
type Key = (typeof groups)[number]["keys"][number];

/** A setting that nobody has made is not there: its field is empty, and the hub's default holds. */
const shown = (settings: Settings, key: Key | "site_name") => (settings[key] === undefined ? "" : String(settings[key]));

/** What differs from what the hub has. */
function changesOf(settings: Settings, edited: Record<string, string>): Partial<Settings> {
    return Object.fromEntries(Object.entries(edited).filter(([key, value]) => value !== "" && shown(settings, key as Key) !== value).map(([key, value]) => [key, key === "site_name" ? value : Number(value)]));
}

function SettingsForm({ settings }: { settings: Settings }) {
    const { t } = useTranslation("settings");
    const client = useQueryClient();
    const may = useMay("admin");
    const [edited, setEdited] = useState<Record<string, string>>({});
    const [fourEyes, setFourEyes] = useState<FourEyes>();
    const changes = changesOf(settings, edited);
    const chosen = settings.four_eyes ?? [];
    if (fourEyes && [...fourEyes].sort().join() !== [...chosen].sort().join()) changes.four_eyes = fourEyes;
    const isWrong = Object.values(changes).some((value) => typeof value === "number" && (Number.isNaN(value) || value < 0));
    const mutation = useMutation({
        mutationFn: () => call(api.PATCH("/api/v1/settings", { body: changes, headers: { "Content-Type": "application/merge-patch+json" } })),
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["settings"] });
            setEdited({});
            setFourEyes(undefined);
        },
    });
    const field = (key: Key | "site_name") => (
        <Field key={key} id={key} label={t(`key.${key}`)} type={key === "site_name" ? "text" : "number"} value={edited[key] ?? shown(settings, key)} onChange={(value) => setEdited({ ...edited, [key]: value })} hint={t(`hint.${key}`)} />
    );
    const save = (event: SyntheticEvent) => {
        event.preventDefault();
        mutation.mutate();
    };
    return (
        <Form onSubmit={save} aria-label={t("title")} isWidthLimited>
            {field("site_name")}
            {groups.map(({ name, keys }) => (
                <FormFieldGroup key={name} header={<FormFieldGroupHeader titleText={{ text: t(`group.${name}`), id: `group-${name}` }} />}>{keys.map(field)}</FormFieldGroup>
            ))}
            <FourEyesChoice chosen={fourEyes ?? chosen} isDisabled={!may} onChange={setFourEyes} />
            <SettingsProblem error={mutation.error} />
            {mutation.isSuccess && Object.keys(changes).length === 0 && <Notice variant="success" isInline component="h2" title={t("saved")} />}
            {may && <ActionGroup><Button id="save-settings" type="submit" isLoading={mutation.isPending} isDisabled={Object.keys(changes).length === 0 || isWrong || mutation.isPending} spinnerAriaValueText={t("saving")}>{t("save")}</Button></ActionGroup>}
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
