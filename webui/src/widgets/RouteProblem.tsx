// SPDX-License-Identifier: Apache-2.0
//
// What stands in a page's place when it cannot be shown.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { type ErrorComponentProps, useRouter } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { ProblemAlert } from "./ProblemAlert";

export function RouteProblem({ error, reset }: ErrorComponentProps) {
    const { t } = useTranslation();
    const router = useRouter();
    const again = () => {
        reset();
        void router.invalidate();
    };
    return (
        <PageSection isFilled>
            <ProblemAlert error={error} />
            <Button className="lw-above" variant="primary" onClick={again}>{t("tryAgain")}</Button>
        </PageSection>
    );
}
