// SPDX-License-Identifier: Apache-2.0
//
// PatternFly's Alert with its hidden word ("Danger alert:") in the chosen language.
import { Alert, type AlertProps } from "@patternfly/react-core/dist/dynamic/components/Alert";
import { useTranslation } from "react-i18next";

export function Notice({ variant = "custom", ...rest }: Omit<AlertProps, "ref" | "variantLabel">) {
    const { t } = useTranslation();
    return <Alert variant={variant} variantLabel={t(`notice.${variant}`)} {...rest} />;
}
