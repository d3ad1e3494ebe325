// SPDX-License-Identifier: Apache-2.0
import { useTranslation } from "react-i18next";

/** The name of a kind of job, or the hub's word for one that this console does not know yet. */
export function useJobName(): (kind: string) => string {
    const { t } = useTranslation();
    return (kind) => t(`jobs.kind.${kind}` as "jobs.kind.protect", { defaultValue: kind.replaceAll("_", " ") });
}
