// SPDX-License-Identifier: Apache-2.0
//
// A one-time token as a command for the new machine, and what is heard of the machine then: the token was used, the agent is connected, its disks are
// known. The token is made here and shown as long as this page stays open.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { ClipboardCopy, ClipboardCopyVariant } from "@patternfly/react-core/dist/dynamic/components/ClipboardCopy";
import { ProgressStep, ProgressStepper } from "@patternfly/react-core/dist/dynamic/components/ProgressStepper";
import { queryOptions, useMutation, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, callAll } from "../../api/client";
import { machineQuery } from "../../api/queries";
import { Field } from "../../widgets/Field";
import { ProblemAlert } from "../../widgets/ProblemAlert";

const LOOK_MS = 1500;

/** Who came with this token; undefined: nobody yet. */
const arrivalQuery = (token: string) =>
    queryOptions({
        queryKey: ["enrolment", "arrival", token],
        queryFn: async () => {
            const all = await callAll((cursor) => api.GET("/api/v1/enrolment-tokens", { params: { query: { limit: 500, cursor } } }), 5000);
            return all.find((one) => one.id === token)?.used_by ?? null;
        },
        refetchInterval: (query) => (query.state.data ? false : LOOK_MS),
    });

interface Made {
    id: string;
    token: string;
}

function Commands({ hub, made }: { hub: string; made: Made }) {
    const { t } = useTranslation("protect");
    const copy = { isReadOnly: true, hoverTip: t("copyWord"), clickTip: t("copied"), toggleAriaLabel: t("showAll"), copyAriaLabel: t("copyWord") };
    const packaged = `apt install ./leeward-agent_*.deb && printf 'hub = ${hub}\\ntoken = ${made.token}\\n' > /etc/leeward/agent.conf && systemctl restart leeward-agent`;
    return (
        <>
            <p>{t("onMachine")}</p>
            <ClipboardCopy {...copy} id="install-command" variant={ClipboardCopyVariant.expansion} isCode textAriaLabel={t("command")}>{packaged}</ClipboardCopy>
            <p className="lw-above">{t("without")}</p>
            <ClipboardCopy {...copy} id="start-command" textAriaLabel={t("command")}>{`leeward-agent --hub ${hub} --token ${made.token}`}</ClipboardCopy>
            <p className="lw-subtle lw-above">{t("once")}</p>
        </>
    );
}

function Arrival({ token, onReady }: { token: string; onReady: (machine: string) => void }) {
    const { t } = useTranslation("protect");
    const arrival = useQuery(arrivalQuery(token));
    const id = arrival.data ?? "";
    const { data: machine } = useQuery({ ...machineQuery(id), enabled: id !== "" });
    const hasDisks = (machine?.disk_count ?? 0) > 0;
    useEffect(() => {
        if (machine && hasDisks) onReady(machine.id);
    }, [machine, hasDisks, onReady]);
    const stages = [
        { key: "used", is: id !== "" },
        { key: "online", is: machine?.online ?? false },
        { key: "disks", is: hasDisks },
    ] as const;
    const current = stages.findIndex((stage) => !stage.is);
    return (
        <div role="status" className="lw-above" id="arrival" data-ready={hasDisks}>
            <ProblemAlert error={arrival.error} />
            <ProgressStepper isVertical aria-label={t("contact.title")}>
                {stages.map((stage, index) => (
                    <ProgressStep key={stage.key} id={`contact-${stage.key}`} titleId={`contact-${stage.key}-title`} variant={stage.is ? "success" : index === current ? "info" : "pending"} isCurrent={index === current} aria-label={t(`contact.${stage.key}`)} description={stage.key === "disks" && machine && hasDisks ? t("contact.found", { name: machine.name, count: machine.disk_count }) : undefined}>
                        {t(`contact.${stage.key}`)}
                    </ProgressStep>
                ))}
            </ProgressStepper>
        </div>
    );
}

export function FirstContact({ onReady }: { onReady: (machine: string) => void }) {
    const { t } = useTranslation("protect");
    const { data: status } = useQuery({ queryKey: ["status"], queryFn: () => call(api.GET("/api/v1/status")), staleTime: 60_000 });
    const [typed, setTyped] = useState<string>();
    const hub = typed ?? `${location.hostname}:${status?.control_port ?? ""}`;
    const make = useMutation({ mutationFn: () => call(api.POST("/api/v1/enrolment-tokens", { body: { role: "agent", name: "console" } })) });
    return (
        <>
            <Field id="hub-address" label={t("hub")} value={hub} onChange={setTyped} hint={t("hubHint")} />
            <ProblemAlert error={make.error} />
            {make.data ? (
                <div className="lw-above">
                    <Commands hub={hub} made={make.data} />
                    <Arrival token={make.data.id} onReady={onReady} />
                </div>
            ) : (
                <Button id="make-token" variant="primary" className="lw-above" isDisabled={make.isPending || !hub} isLoading={make.isPending} onClick={() => make.mutate()}>{t("make")}</Button>
            )}
        </>
    );
}
