// SPDX-License-Identifier: Apache-2.0
//
// What replicas of one machine get at a target, with what that comes to; where it says nothing its site's mapping does.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Card, CardBody, CardTitle } from "@patternfly/react-core/dist/dynamic/components/Card";
import { ActionGroup, Form } from "@patternfly/react-core/dist/dynamic/components/Form";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import type { Machine } from "../../api/queries";
import type { components } from "../../api/schema";
import { useMay } from "../../api/session";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { entryOf, isEntered, patchOf } from "./mapping";
import { MappingFields } from "./MappingFields";
import { MappingResult } from "./MappingResult";

type Mapping = components["schemas"]["MachineMapping"];

const mappingQuery = (id: string) => queryOptions({ queryKey: ["machine", id, "mapping"], queryFn: () => call(api.GET("/api/v1/machines/{machine_id}/mapping", { params: { path: { machine_id: id } } })) });

function Cards({ mapping }: { mapping: Mapping }) {
    const { t } = useTranslation("mapping");
    return (
        <ul className="lw-plain-list lw-below" id="machine-cards">
            {mapping.machine_nics.map((nic) => <li key={nic.name + nic.mac}>{[nic.name, nic.mac, ...nic.addresses].join(" · ")}</li>)}
            {mapping.machine_nics.length === 0 && <li>{t("cardsUnknown")}</li>}
        </ul>
    );
}

function MappingForm({ mapping }: { mapping: Mapping }) {
    const { t } = useTranslation("mapping");
    const client = useQueryClient();
    const mayAct = useMay("operator");
    // The version that the form began with: what somebody else has changed meanwhile is not overwritten, the hub says so.
    const [began, setBegan] = useState(mapping);
    const [entry, setEntry] = useState(() => entryOf(mapping));
    const begin = (from: Mapping) => {
        setBegan(from);
        setEntry(entryOf(from));
    };
    const mutation = useMutation({
        mutationFn: () => call(api.PATCH("/api/v1/machines/{machine_id}/mapping", { params: { path: { machine_id: began.machine_id }, header: ifMatch(began) }, body: patchOf(entry), headers: { "Content-Type": "application/merge-patch+json" } })),
        onSuccess: (now) => {
            client.setQueryData(mappingQuery(now.machine_id).queryKey, now);
            begin(now);
        },
        onError: () => client.invalidateQueries({ queryKey: mappingQuery(began.machine_id).queryKey }),
    });
    const isChanged = JSON.stringify(patchOf(entry)) !== JSON.stringify(patchOf(entryOf(began)));
    const save = (event: SyntheticEvent) => {
        event.preventDefault();
        mutation.mutate();
    };
    const discard = () => {
        mutation.reset();
        begin(mapping);
    };
    return (
        <Form onSubmit={save} aria-label={t("title")}>
            <fieldset disabled={!mayAct} className="lw-mapping">
                <MappingFields entry={entry} known={mapping.machine_nics.map((nic) => nic.name)} onChange={setEntry} />
            </fieldset>
            <ProblemAlert error={mutation.error} />
            {mutation.isSuccess && !isChanged && <Notice variant="success" isInline component="h2" title={t("saved")} />}
            {mayAct && (
                <ActionGroup>
                    <Button id="save-mapping" type="submit" isLoading={mutation.isPending} isDisabled={!isChanged || !isEntered(entry) || mutation.isPending} spinnerAriaValueText={t("saving")}>{t("save")}</Button>
                    <Button variant="link" isDisabled={(!isChanged && began.etag === mapping.etag) || mutation.isPending} onClick={discard}>{t("discard")}</Button>
                </ActionGroup>
            )}
        </Form>
    );
}

export function MachineMapping({ machine }: { machine: Machine }) {
    const { t } = useTranslation("mapping");
    const { t: common } = useTranslation();
    const { data, error } = useQuery(mappingQuery(machine.id));
    if (!data) return error ? <ProblemAlert error={error} /> : <Skeleton height="16rem" screenreaderText={common("loading")} />;
    return (
        <>
            <p className="lw-below">{data.site_name ? t("textOfSite", { site: data.site_name }) : t("text")}</p>
            <Card component="section" className="lw-below">
                <CardTitle component="h2">{t("result")}</CardTitle>
                <CardBody>
                    <h3><strong>{t("cards")}</strong></h3>
                    <Cards mapping={data} />
                    <MappingResult id="mapping-failover" title={t("failover")} outcome={data.failover} />
                    <MappingResult id="mapping-test" title={t("test")} outcome={data.test} />
                </CardBody>
            </Card>
            {/* Its own form for each machine: the history leads from one machine's page to another's without leaving it. */}
            <MappingForm key={data.machine_id} mapping={data} />
        </>
    );
}
