// SPDX-License-Identifier: Apache-2.0
//
// A new password: because one was given out that only its owner may know, or because its owner wants another.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { ActionGroup, Form, FormGroup, FormHelperText } from "@patternfly/react-core/dist/dynamic/components/Form";
import { HelperText, HelperTextItem } from "@patternfly/react-core/dist/dynamic/components/HelperText";
import { TextInput } from "@patternfly/react-core/dist/dynamic/components/TextInput";
import { useNavigate } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { useTranslation } from "react-i18next";

import { useChangePassword, useSession } from "../../api/session";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { LoginFrame } from "./LoginFrame";

const SHORTEST = 12;

function Field({ id, label, value, onChange, autoComplete, hint, isWrong }: { id: string; label: string; value: string; onChange: (value: string) => void; autoComplete: string; hint?: string; isWrong?: boolean }) {
    return (
        <FormGroup label={label} fieldId={id}>
            <TextInput id={id} type="password" autoComplete={autoComplete} isRequired value={value} onChange={(_event, text) => onChange(text)} aria-describedby={hint ? `${id}-hint` : undefined} validated={isWrong ? "error" : "default"} />
            {hint && (
                <FormHelperText>
                    <HelperText id={`${id}-hint`}>
                        <HelperTextItem variant={isWrong ? "error" : "default"}>{hint}</HelperTextItem>
                    </HelperText>
                </FormHelperText>
            )}
        </FormGroup>
    );
}

export function PasswordPage() {
    const { t } = useTranslation("login");
    const { t: common } = useTranslation();
    const navigate = useNavigate();
    const change = useChangePassword();
    const must = useSession()?.user.must_change_password ?? false;
    const [old, setOld] = useState("");
    const [fresh, setFresh] = useState("");
    const [again, setAgain] = useState("");
    const differs = again !== "" && again !== fresh;
    const submit = (event: SyntheticEvent) => {
        event.preventDefault();
        change.mutate({ current_password: old, new_password: fresh }, { onSuccess: () => void navigate({ to: "/" }) });
    };
    return (
        <LoginFrame title={t("change.title")} text={must ? t("change.must") : t("change.text")}>
            <Form onSubmit={submit} aria-label={t("change.title")}>
                {change.isError && <ProblemAlert error={change.error} />}
                <Field id="old-password" label={t("change.old")} value={old} onChange={setOld} autoComplete="current-password" />
                <Field id="new-password" label={t("change.new")} value={fresh} onChange={setFresh} autoComplete="new-password" hint={t("change.hint", { count: SHORTEST })} isWrong={fresh !== "" && fresh.length < SHORTEST} />
                <Field id="new-password-again" label={t("change.again")} value={again} onChange={setAgain} autoComplete="new-password" hint={differs ? t("change.differs") : undefined} isWrong={differs} />
                <ActionGroup>
                    <Button id="change-password" type="submit" variant="primary" isLoading={change.isPending} isDisabled={change.isPending || !old || fresh.length < SHORTEST || fresh !== again} spinnerAriaValueText={t("pending")}>
                        {t("change.submit")}
                    </Button>
                    {!must && <Button variant="link" onClick={() => void navigate({ to: "/" })}>{common("cancel")}</Button>}
                </ActionGroup>
            </Form>
        </LoginFrame>
    );
}
