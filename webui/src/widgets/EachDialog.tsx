// SPDX-License-Identifier: Apache-2.0
//
// A question before something is asked for each of one or many, how far that is, and what became of each. Of one a problem is
// shown where the question is; of many there is a line for each, and who closes the dialog is told which have not what was wished.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Form } from "@patternfly/react-core/dist/dynamic/components/Form";
import { Modal, ModalBody, ModalFooter, ModalHeader, ModalVariant } from "@patternfly/react-core/dist/dynamic/components/Modal";
import { Progress } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, type SyntheticEvent, useEffect, useId, useRef, useState } from "react";
import { useTranslation } from "react-i18next";

import { askEach, isWell, type Named, type Outcome, type Result } from "../api/each";
import type { Machine } from "../api/queries";
import { useFormat } from "../i18n/format";
import { EachResults, type Thing, useEachSummary } from "./EachResults";
import { ProblemAlert } from "./ProblemAlert";

type Step<T extends Named> = { at: "asking"; problem?: unknown } | { at: "running"; done: number } | { at: "over"; results: Result<T>[] };

interface EachDialogProps<T extends Named> {
    thing: Thing;
    title: string;
    text?: ReactNode;
    submit: string;
    isDanger?: boolean;
    isDisabled?: boolean;
    items: T[];
    ask: (item: T) => Promise<Outcome>;
    /** Lines are shown also where all is well. */
    showsAll?: boolean;
    /** `left`: those that have not what was wished; undefined: nothing was asked for. */
    onClose: (left?: T[]) => void;
    children?: ReactNode;
}

const TOUCHED: Record<Thing, string[]> = {
    machine: ["machines", "machine", "policies", "sites", "jobs", "overview", "approvals"],
    alert: ["alerts", "overview", "events"],
};

/** Where it stands, and the ways on: `start`, `stop` (after the one that is being asked for). */
function useEach<T extends Named>({ thing, items: given, ask, showsAll, onClose }: Pick<EachDialogProps<T>, "thing" | "items" | "ask" | "showsAll" | "onClose">) {
    const client = useQueryClient();
    const [items] = useState(given); // behind the dialog they are read again every few seconds
    const [step, setStep] = useState<Step<T>>({ at: "asking" });
    const controller = useRef<AbortController>(undefined);
    const stop = () => controller.current?.abort();
    useEffect(() => stop, []);
    const start = async () => {
        controller.current = new AbortController();
        setStep({ at: "running", done: 0 });
        const results = await askEach(items, ask, controller.current.signal, (done) => setStep({ at: "running", done }));
        void client.invalidateQueries({ predicate: ({ queryKey }) => TOUCHED[thing].includes(String(queryKey[0])) });
        if (items.length === 1 && results[0]?.problem) setStep({ at: "asking", problem: results[0].problem });
        else if (!showsAll && results.every(isWell)) onClose([]);
        else setStep({ at: "over", results });
    };
    return { items, step, start: () => void start(), stop };
}

/** PatternFly's own closing button speaks English; the buttons below and Escape close it. */
function useEscape(close: () => void) {
    const latest = useRef(close);
    useEffect(() => {
        latest.current = close;
    });
    useEffect(() => {
        const onKey = (event: KeyboardEvent) => {
            if (event.key === "Escape") latest.current();
        };
        document.addEventListener("keydown", onKey);
        return () => document.removeEventListener("keydown", onKey);
    }, []);
}

function Working({ thing, done, total }: { thing: Thing; done: number; total: number }) {
    const { t } = useTranslation();
    const { number } = useFormat();
    return <Progress value={(done / total) * 100} title={t(`each.${thing}.progress`, { count: total, number: number(total) })} label={`${number(done)} / ${number(total)}`} valueText={`${number(done)} / ${number(total)}`} />;
}

export function EachDialog<T extends Named>({ title, text, submit, isDanger, isDisabled, children, ...rest }: EachDialogProps<T>) {
    const { t } = useTranslation();
    const id = useId();
    const { thing } = rest;
    const { items, step, start, stop } = useEach(rest);
    const summary = useEachSummary(thing);
    const next = useRef<HTMLButtonElement>(null);
    // The button that had the focus is gone with its step.
    useEffect(() => next.current?.focus(), [step.at]);
    const close = () => (step.at === "running" ? stop() : rest.onClose(step.at === "over" ? step.results.filter((one) => !isWell(one)).map((one) => one.item) : undefined));
    useEscape(close);
    const send = (event: SyntheticEvent) => {
        event.preventDefault();
        if (!isDisabled && step.at === "asking") start();
    };
    return (
        <Modal isOpen variant={items.length > 1 ? ModalVariant.medium : ModalVariant.small} aria-labelledby={`${id}-title`}>
            <ModalHeader title={title} labelId={`${id}-title`} description={step.at === "over" ? undefined : text} titleIconVariant={isDanger && step.at === "asking" ? "warning" : undefined} />
            <ModalBody>
                <p role="status" id="each-summary">{step.at === "over" ? summary(step.results) : ""}</p>
                {step.at === "asking" && <Form id={`${id}-form`} onSubmit={send} aria-label={title}><ProblemAlert error={step.problem} />{children}</Form>}
                {step.at === "running" && items.length > 1 && <Working thing={thing} done={step.done} total={items.length} />}
                {step.at === "over" && <EachResults thing={thing} results={step.results} />}
            </ModalBody>
            <ModalFooter>
                {step.at === "over" ? (
                    <Button id="dialog-close" ref={next} onClick={close}>{t("close")}</Button>
                ) : step.at === "running" && items.length > 1 ? (
                    <Button id="dialog-stop" ref={next} variant="secondary" onClick={stop}>{t(`each.${thing}.stop`)}</Button>
                ) : (
                    <>
                        <Button id="dialog-act" type="submit" form={`${id}-form`} variant={isDanger ? "danger" : "primary"} isLoading={step.at === "running"} isDisabled={isDisabled || step.at === "running"} spinnerAriaValueText={t("loading")}>{submit}</Button>
                        <Button variant="link" onClick={close}>{t("cancel")}</Button>
                    </>
                )}
            </ModalFooter>
        </Modal>
    );
}

/** "12 machines (web1, web2, ...)", or the name of the one that there is. */
export function useNamesOf() {
    const { t } = useTranslation();
    const { number } = useFormat();
    return (machines: Machine[]) => {
        const names = machines.map((machine) => machine.name).join(", ");
        return machines.length === 1 ? names : t("each.machine.named", { count: machines.length, number: number(machines.length), names: names.length > 120 ? `${names.slice(0, 120)}…` : names });
    };
}
