// SPDX-License-Identifier: Apache-2.0
//
// Taking on one alert or all that are ticked, with a word for those who come after.
import { FormGroup } from "@patternfly/react-core/dist/dynamic/components/Form";
import { TextArea } from "@patternfly/react-core/dist/dynamic/components/TextArea";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import type { Outcome } from "../../api/each";
import type { Alert } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { useAlertTitle } from "../../widgets/alertTitle";
import { EachDialog } from "../../widgets/EachDialog";

/** As long as the API takes a note. */
const NOTE_MAX = 1000;

/** An alert that somebody else has taken on, or that is over, stays as it is: the hub then answers with what it has. */
async function acknowledge(id: string, note: string): Promise<Outcome> {
    const now = await call(api.POST("/api/v1/alerts/{alert_id}/acknowledge", { params: { path: { alert_id: id } }, body: { note } }));
    return now.state === "acknowledged" && now.note === note ? "done" : "already";
}

export function AcknowledgeDialog({ alerts, onClose }: { alerts: Alert[]; onClose: (left?: Alert[]) => void }) {
    const { t } = useTranslation("alerts");
    const { number } = useFormat();
    const title = useAlertTitle();
    const [note, setNote] = useState("");
    const [items] = useState(() => alerts.map((alert) => ({ id: alert.id, name: `${alert.subject_name}: ${title(alert.code, alert.title)}`, alert })));
    return (
        <EachDialog
            thing="alert"
            title={t("acknowledgeMany", { count: items.length, number: number(items.length) })}
            text={items.length === 1 ? items[0]?.name : t("dialogText")}
            submit={t("acknowledge")}
            items={items}
            ask={({ id }) => acknowledge(id, note.trim())}
            onClose={(left) => onClose(left?.map(({ alert }) => alert))}
        >
            <FormGroup label={t("note")} fieldId="acknowledge-note">
                <TextArea id="acknowledge-note" value={note} maxLength={NOTE_MAX} onChange={(_event, value) => setNote(value)} resizeOrientation="vertical" />
            </FormGroup>
        </EachDialog>
    );
}
