// SPDX-License-Identifier: Apache-2.0
//
// One plan as a picture and as text. What is typed is drawn at once; whether it is right, the hub says before it is saved.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { TextArea } from "@patternfly/react-core/dist/dynamic/components/TextArea";
import { Title } from "@patternfly/react-core/dist/dynamic/components/Title";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useDeferredValue, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import { useMay } from "../../api/session";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { PlanGraph } from "./PlanGraph";
import { type PlanGroup, stepsOf } from "./planLayout";
import { type Plan, type PlanBody, planQuery } from "./planQueries";
import { RunDialog } from "./RunDialog";

const EXAMPLE: PlanBody = { name: "new plan", description: "", target: "disks", groups: [{ name: "first", steps: [{ name: "go", type: "gate", question: "?" }] }] };

/** The plan without what is the hub's, in the order in which people read it. */
const bodyOf = ({ name, description, target, max_parallel, groups }: PlanBody): PlanBody => ({ name, description, ...(target && { target }), ...(max_parallel && { max_parallel }), groups });

type Parsed = { plan: PlanBody; wrong?: undefined } | { plan?: undefined; wrong: string };

function parse(text: string): Parsed {
    try {
        return { plan: JSON.parse(text) as PlanBody };
    } catch (error) {
        return { wrong: error instanceof Error ? error.message : String(error) };
    }
}

/** Only what can be drawn: anything may have been typed. */
function drawable(plan: PlanBody | undefined): PlanGroup[] {
    const groups: unknown = plan?.groups;
    if (!Array.isArray(groups)) return [];
    const isStep = (step: unknown) => typeof step === "object" && step !== null && typeof (step as { name?: unknown }).name === "string";
    return (groups as (PlanGroup | null)[]).flatMap((group) => (group && typeof group.name === "string" && Array.isArray(group.steps) ? [{ ...group, after: Array.isArray(group.after) ? group.after : undefined, steps: group.steps.filter(isStep) }] : []));
}

function useSave(plan: Plan | undefined) {
    const client = useQueryClient();
    const navigate = useNavigate();
    const put = (body: PlanBody, dry_run: boolean) =>
        plan
            ? call(api.PATCH("/api/v1/plans/{plan_id}", { params: { path: { plan_id: plan.id }, header: ifMatch(plan), query: { dry_run } }, body: { target: null, max_parallel: null, ...body }, headers: { "Content-Type": "application/merge-patch+json" } }))
            : call(api.POST("/api/v1/plans", { params: { query: { dry_run } }, body }));
    const check = useMutation({ mutationFn: (body: PlanBody) => put(body, true) });
    const save = useMutation({
        mutationFn: (body: PlanBody) => put(body, false),
        onSuccess: async (saved) => {
            await client.invalidateQueries({ queryKey: ["plans"] });
            void navigate({ to: "/plans/$planId", params: { planId: saved.id } });
        },
    });
    return { check, save };
}

function Steps({ groups }: { groups: PlanGroup[] }) {
    const { t } = useTranslation("plans");
    return (
        <details className="lw-above">
            <summary>{t("asList")}</summary>
            <ul className="lw-above">
                {stepsOf(groups).map((step) => <li key={step.id}><strong>{step.id}</strong> ({step.group}, {t(`type.${step.type}`)}) {step.text}{step.after.length > 0 && <span className="lw-subtle"> · {t("waitsFor", { names: step.after.join(", ") })}</span>}</li>)}
            </ul>
        </details>
    );
}

function Editor({ plan }: { plan: Plan | undefined }) {
    const { t } = useTranslation("plans");
    const mayWrite = useMay("admin");
    const mayRun = useMay("operator");
    const [text, setText] = useState(() => JSON.stringify(bodyOf(plan ?? EXAMPLE), null, 2));
    const [running, setRunning] = useState(false);
    const parsed = parse(useDeferredValue(text));
    const groups = useMemo(() => drawable(parsed.plan), [parsed.plan]);
    const { check, save } = useSave(plan);
    const act = (mutation: typeof check) => {
        check.reset();
        save.reset();
        const now = parse(text);
        if (now.plan) mutation.mutate(now.plan);
    };
    const isBusy = check.isPending || save.isPending;
    return (
        <>
            <PageHeader title={plan?.name ?? t("add")} text={plan?.description} actions={mayRun && plan && <Button id="run-plan" onClick={() => setRunning(true)}>{t("start")}</Button>} />
            <PageSection hasBodyWrapper={false} isFilled>
                <PlanGraph steps={stepsOf(groups)} />
                <Steps groups={groups} />
                <Title headingLevel="h2" className="lw-above">{t("asText")}</Title>
                <p className="lw-subtle" id="plan-hint">{t("asTextHint")}</p>
                <TextArea id="plan-text" aria-label={t("asText")} aria-describedby="plan-hint" className="lw-code" value={text} onChange={(_event, value) => setText(value)} resizeOrientation="vertical" rows={20} readOnlyVariant={mayWrite ? undefined : "default"} validated={parsed.wrong ? "error" : "default"} spellCheck={false} />
                {parsed.wrong && <Notice variant="warning" isInline component="h3" title={t("notJson")}><p>{parsed.wrong}</p></Notice>}
                <ProblemAlert error={check.error ?? save.error} />
                {check.isSuccess && <Notice variant="success" isInline component="h3" title={t("isRight")} />}
                {save.isSuccess && <Notice variant="success" isInline component="h3" title={t("isSaved")} />}
                {mayWrite && (
                    <Flex className="lw-above" columnGap={{ default: "columnGapMd" }}>
                        <Button id="save-plan" isDisabled={Boolean(parsed.wrong) || isBusy} isLoading={save.isPending} onClick={() => act(save)}>{t("save")}</Button>
                        <Button id="check-plan" variant="secondary" isDisabled={Boolean(parsed.wrong) || isBusy} isLoading={check.isPending} onClick={() => act(check)}>{t("check")}</Button>
                    </Flex>
                )}
            </PageSection>
            {running && plan && <RunDialog plan={plan} onClose={() => setRunning(false)} />}
        </>
    );
}

export function PlanPage() {
    const { t } = useTranslation();
    const { planId } = useParams({ from: "/shell/plans/$planId" });
    const isNew = planId === "new";
    const { data, error } = useQuery({ ...planQuery(planId), enabled: !isNew });
    if (isNew) return <Editor plan={undefined} />;
    if (data) return <Editor key={data.id} plan={data} />;
    return <PageSection hasBodyWrapper={false} isFilled>{error ? <ProblemAlert error={error} /> : <Skeleton height="24rem" screenreaderText={t("loading")} />}</PageSection>;
}
