// SPDX-License-Identifier: Apache-2.0
//
// A question with its answer's button. It stays open while the hub works and shows what went wrong.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Modal, ModalBody, ModalFooter, ModalHeader, ModalVariant } from "@patternfly/react-core/dist/dynamic/components/Modal";
import { type ReactNode, useEffect, useId } from "react";
import { useTranslation } from "react-i18next";

import { ProblemAlert } from "./ProblemAlert";

interface DialogProps {
    title: string;
    text?: ReactNode;
    children?: ReactNode;
    action: string;
    isDanger?: boolean;
    isPending: boolean;
    isDisabled?: boolean;
    error: unknown;
    onAct: () => void;
    onClose: () => void;
    /** After the work is done there is something to read, and nothing more to do. */
    isDone?: boolean;
}

export function Dialog({ title, text, children, action, isDanger, isPending, isDisabled, error, onAct, onClose, isDone }: DialogProps) {
    const { t } = useTranslation();
    const id = useId();
    // PatternFly's own closing button speaks English; the buttons below and Escape close it.
    useEffect(() => {
        const onKey = (event: KeyboardEvent) => {
            if (event.key === "Escape") onClose();
        };
        document.addEventListener("keydown", onKey);
        return () => document.removeEventListener("keydown", onKey);
    }, [onClose]);
    return (
        <Modal variant={ModalVariant.small} isOpen aria-labelledby={`${id}-title`} aria-describedby={`${id}-body`}>
            <ModalHeader title={title} labelId={`${id}-title`} description={text} titleIconVariant={isDanger ? "warning" : undefined} />
            <ModalBody id={`${id}-body`}>
                <ProblemAlert error={error} />
                {children}
            </ModalBody>
            <ModalFooter>
                {isDone ? (
                    <Button variant="primary" onClick={onClose}>{t("close")}</Button>
                ) : (
                    <>
                        <Button id="dialog-act" variant={isDanger ? "danger" : "primary"} isLoading={isPending} isDisabled={isPending || isDisabled} onClick={onAct} spinnerAriaValueText={t("loading")}>{action}</Button>
                        <Button variant="link" onClick={onClose}>{t("cancel")}</Button>
                    </>
                )}
            </ModalFooter>
        </Modal>
    );
}
