// SPDX-License-Identifier: Apache-2.0
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { BanIcon } from "@patternfly/react-icons/dist/dynamic/icons/ban-icon";
import { CheckCircleIcon } from "@patternfly/react-icons/dist/dynamic/icons/check-circle-icon";
import { ExclamationCircleIcon } from "@patternfly/react-icons/dist/dynamic/icons/exclamation-circle-icon";
import { HandPaperIcon } from "@patternfly/react-icons/dist/dynamic/icons/hand-paper-icon";
import { InProgressIcon } from "@patternfly/react-icons/dist/dynamic/icons/in-progress-icon";
import { OutlinedClockIcon } from "@patternfly/react-icons/dist/dynamic/icons/outlined-clock-icon";
import { useTranslation } from "react-i18next";

import type { Job } from "../../api/queries";

const looks = {
    queued: { color: "grey", icon: <OutlinedClockIcon /> },
    running: { color: "blue", icon: <InProgressIcon /> },
    waiting_for_input: { color: "orange", icon: <HandPaperIcon /> },
    succeeded: { color: "green", icon: <CheckCircleIcon /> },
    failed: { color: "red", icon: <ExclamationCircleIcon /> },
    cancelled: { color: "grey", icon: <BanIcon /> },
} as const;

export function JobStatus({ status }: { status: Job["status"] }) {
    const { t } = useTranslation();
    return <Label color={looks[status].color} icon={looks[status].icon} isCompact>{t(`jobs.status.${status}`)}</Label>;
}
