// SPDX-License-Identifier: Apache-2.0
//
// What a failback would take back: since when, how much at most, and what of the source's own is lost by it.
import { DescriptionList, DescriptionListDescription, DescriptionListGroup, DescriptionListTerm } from "@patternfly/react-core/dist/dynamic/components/DescriptionList";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

import { useFormat } from "../../i18n/format";
import { Notice } from "../../widgets/Notice";
import type { Preview } from "./failbackQueries";

export function FailbackFacts({ preview }: { preview: Preview }) {
    const { t } = useTranslation("failback");
    const { moment, bytes, number, ago } = useFormat();
    const rows: [string, ReactNode][] = [
        [t("since"), preview.since ? `${moment(preview.since)} · ${ago(preview.since)}` : "–"],
        [t("began"), `${number(preview.sequence)}${preview.point_time ? ` · ${moment(preview.point_time)}` : ""}`],
        [t("newest"), preview.last_sequence !== null && preview.last_point_time ? `${number(preview.last_sequence)} · ${moment(preview.last_point_time)}` : t("noPointYet")],
        [t("changed"), t("atMost", { size: bytes(preview.changed_bytes), count: preview.point_count })],
        [t("compared"), bytes(preview.compared_bytes)],
        [t("disks"), <ul key="disks" className="lw-plain-list">{preview.disks.map((disk) => <li key={disk.number}>{disk.device || disk.key} · {bytes(disk.size_bytes)}</li>)}</ul>],
    ];
    return (
        <div id="failback-facts" data-changed={preview.changed_bytes}>
            <DescriptionList isHorizontal isCompact>
                {rows.map(([term, text]) => <DescriptionListGroup key={term}><DescriptionListTerm>{term}</DescriptionListTerm><DescriptionListDescription>{text}</DescriptionListDescription></DescriptionListGroup>)}
            </DescriptionList>
            {preview.lost_point_count > 0 && (
                <Notice className="lw-above" variant="warning" isInline component="h3" title={t("lost", { count: preview.lost_point_count, size: bytes(preview.lost_bytes) })}>
                    <p>{t("lostText", { sequence: number(preview.sequence) })}</p>
                </Notice>
            )}
        </div>
    );
}
