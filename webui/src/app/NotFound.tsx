// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { EmptyState, EmptyStateActions, EmptyStateBody, EmptyStateFooter } from "@patternfly/react-core/dist/dynamic/components/EmptyState";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { SearchIcon } from "@patternfly/react-icons/dist/dynamic/icons/search-icon";
import { useNavigate } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

export function NotFound() {
    const { t } = useTranslation();
    const navigate = useNavigate();
    return (
        <main>
        <PageSection isFilled>
            <EmptyState titleText={t("notFound.title")} headingLevel="h1" icon={SearchIcon}>
                <EmptyStateBody>{t("notFound.text")}</EmptyStateBody>
                <EmptyStateFooter>
                    <EmptyStateActions>
                        <Button variant="primary" onClick={() => void navigate({ to: "/" })}>{t("notFound.action")}</Button>
                    </EmptyStateActions>
                </EmptyStateFooter>
            </EmptyState>
        </PageSection>
        </main>
    );
}
