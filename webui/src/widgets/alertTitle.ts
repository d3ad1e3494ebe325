// SPDX-License-Identifier: Apache-2.0
import { useTranslation } from "react-i18next";

/** What a rule of the hub is called here; the hub's own words for one that this console does not know yet. */
export function useAlertTitle(): (code: string, fallback: string) => string {
    const { t } = useTranslation();
    return (code, fallback) => t(`alert.${code}` as "alert.rpo_not_met", { defaultValue: fallback });
}
