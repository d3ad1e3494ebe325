// SPDX-License-Identifier: Apache-2.0
import { ActionGroup, Form, FormGroup } from "@patternfly/react-core/dist/dynamic/components/Form";
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { TextInput } from "@patternfly/react-core/dist/dynamic/components/TextInput";
import { useRouter, useSearch } from "@tanstack/react-router";
import { type SyntheticEvent, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";

import { useSignIn } from "../../api/session";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { LoginFrame } from "./LoginFrame";

function LoginForm() {
    const { t } = useTranslation("login");
    const [username, setUsername] = useState("");
    const [password, setPassword] = useState("");
    const signIn = useSignIn();
    const router = useRouter();
    const { next } = useSearch({ from: "/login" });
    const submit = (event: SyntheticEvent) => {
        event.preventDefault();
        signIn.mutate({ username, password }, { onSuccess: () => router.history.push(next ?? "/") });
    };
    return (
        <Form onSubmit={submit} aria-label={t("title")}>
            {signIn.isError && <ProblemAlert error={signIn.error} title={t("failed")} />}
            <FormGroup label={t("username")} fieldId="username">
                <TextInput id="username" name="username" autoComplete="username" autoCapitalize="none" isRequired value={username} onChange={(_event, value) => setUsername(value)} />
            </FormGroup>
            <FormGroup label={t("password")} fieldId="password">
                <TextInput id="password" name="password" type="password" autoComplete="current-password" isRequired value={password} onChange={(_event, value) => setPassword(value)} />
            </FormGroup>
            <ActionGroup>
                <Button id="sign-in" type="submit" variant="primary" isBlock isLoading={signIn.isPending} isDisabled={signIn.isPending || !username || !password} spinnerAriaValueText={t("pending")}>
                    {t("submit")}
                </Button>
            </ActionGroup>
        </Form>
    );
}

export function LoginPage() {
    const { t } = useTranslation("login");
    useEffect(() => document.getElementById("username")?.focus(), []);
    return (
        <LoginFrame title={t("title")} text={t("product")}>
            <LoginForm />
        </LoginFrame>
    );
}
