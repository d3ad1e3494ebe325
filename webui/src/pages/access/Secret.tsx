// SPDX-License-Identifier: Apache-2.0
//
// What is shown once: a token, or a password that was made up.
import { ClipboardCopy } from "@patternfly/react-core/dist/dynamic/components/ClipboardCopy";
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Modal, ModalBody, ModalFooter, ModalHeader, ModalVariant } from "@patternfly/react-core/dist/dynamic/components/Modal";
import { useTranslation } from "react-i18next";

export interface ShownSecret {
    title: string;
    secret: string;
    /** A command that uses it. */
    command?: string;
}

export function Secret({ title, secret, command, onClose }: ShownSecret & { onClose: () => void }) {
    const { t } = useTranslation("access");
    const { t: common } = useTranslation();
    const copy = { hoverTip: t("copy"), clickTip: t("copied"), textAriaLabel: title, toggleAriaLabel: t("showAll"), copyAriaLabel: t("copy") };
    return (
        <Modal isOpen variant={ModalVariant.medium} onClose={onClose} aria-labelledby="secret-title">
            <ModalHeader title={title} labelId="secret-title" description={t("once")} />
            <ModalBody tabIndex={0}>
                <ClipboardCopy isReadOnly {...copy}>{secret}</ClipboardCopy>
                {command && <div className="lw-above"><p>{t("command")}</p><ClipboardCopy isReadOnly {...copy} textAriaLabel={t("command")}>{command}</ClipboardCopy></div>}
            </ModalBody>
            <ModalFooter><Button onClick={onClose}>{common("close")}</Button></ModalFooter>
        </Modal>
    );
}
