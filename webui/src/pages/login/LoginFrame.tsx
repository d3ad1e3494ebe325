// SPDX-License-Identifier: Apache-2.0
//
// The frame of what is shown before the console: a card, and above it theme and language.
import { Card, CardBody } from "@patternfly/react-core/dist/dynamic/components/Card";
import { Title } from "@patternfly/react-core/dist/dynamic/components/Title";
import type { ReactNode } from "react";

import { LanguageChoice } from "../../app/LanguageChoice";
import { Logo } from "../../app/Logo";
import { ThemeChoice } from "../../app/ThemeChoice";
import { usePageTitle } from "../../widgets/pageTitle";

export function LoginFrame({ title, text, children }: { title: string; text: string; children: ReactNode }) {
    usePageTitle(title);
    return (
        <div className="lw-login">
            <header className="lw-login-tools">
                <ThemeChoice />
                <LanguageChoice />
            </header>
            <main>
                <Card className="lw-login-card" isLarge>
                    <CardBody>
                        <Logo />
                        <Title headingLevel="h1" size="xl" className="lw-above">{title}</Title>
                        <p className="lw-subtle">{text}</p>
                    </CardBody>
                    <CardBody>{children}</CardBody>
                </Card>
            </main>
        </div>
    );
}
