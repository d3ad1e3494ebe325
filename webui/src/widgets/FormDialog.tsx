// SPDX-License-Identifier: Apache-2.0
//
// A question with fields in a dialog: what is entered goes to `onSubmit`, a problem stays in the dialog until the hub takes it.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Form } from "@patternfly/react-core/dist/dynamic/components/Form";
import { Modal, ModalBody, ModalFooter, ModalHeader, ModalVariant } from "@patternfly/react-core/dist/dynamic/components/Modal";
import { type ReactNode, type SyntheticEvent, useId } from "react";
import { useTranslation } from "react-i18next";

import { ProblemAlert } from "./ProblemAlert";

interface FormDialogProps {
    title: string;
    text?: ReactNode;
    submit: string;
    isDanger?: boolean;
    isDisabled?: boolean;
    mutation: { isPending: boolean; error: unknown; reset: () => void };
    onSubmit: () => void;
    onClose: () => void;
    children?: ReactNode;
}

export function FormDialog({ title, text, submit, isDanger, isDisabled, mutation, onSubmit, onClose, children }: FormDialogProps) {
    const { t } = useTranslation();
    const id = useId();
    const close = () => {
        mutation.reset();
        onClose();
    };
    const send = (event: SyntheticEvent) => {
        event.preventDefault();
        if (!isDisabled && !mutation.isPending) onSubmit();
    };
    return (
        <Modal isOpen variant={ModalVariant.small} onClose={close} aria-labelledby={`${id}-title`} backdropClassName="lw-dialog">
            <ModalHeader title={title} labelId={`${id}-title`} description={text} titleIconVariant={isDanger ? "warning" : undefined} />
            <ModalBody tabIndex={0}>
                <Form id={`${id}-form`} onSubmit={send} aria-label={title}>
                    <ProblemAlert error={mutation.error} />
                    {children}
                </Form>
            </ModalBody>
            <ModalFooter>
                <Button type="submit" form={`${id}-form`} variant={isDanger ? "danger" : "primary"} isLoading={mutation.isPending} isDisabled={isDisabled || mutation.isPending} spinnerAriaValueText={t("table.loading")}>{submit}</Button>
                <Button variant="link" onClick={close}>{t("cancel")}</Button>
            </ModalFooter>
        </Modal>
    );
}
