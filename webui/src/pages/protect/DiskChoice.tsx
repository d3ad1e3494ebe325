// SPDX-License-Identifier: Apache-2.0
//
// Which disks are protected: all that can be, unless somebody unticks one. What cannot be says why.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";

import { type Disk, disksQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { ProblemAlert } from "../../widgets/ProblemAlert";

export const isEligible = (disk: Disk) => disk.present && disk.trackable;

/** `chosen` undefined: all that are eligible. */
export function DiskChoice({ machine, chosen, onChange }: { machine: string; chosen: ReadonlySet<string> | undefined; onChange: (keys: ReadonlySet<string>) => void }) {
    const { t } = useTranslation("protect");
    const { t: common } = useTranslation();
    const { bytes } = useFormat();
    const { data: disks, error } = useQuery({ ...disksQuery(machine), refetchInterval: 5000 });
    const keys = chosen ?? new Set(disks?.filter(isEligible).map((disk) => disk.key));
    const toggle = (key: string, on: boolean) => {
        const next = new Set(keys);
        if (on) next.add(key);
        else next.delete(key);
        onChange(next);
    };
    if (!disks) return error ? <ProblemAlert error={error} /> : <Skeleton height="8rem" screenreaderText={common("loading")} />;
    return (
        <fieldset id="disk-choice">
            <legend>{t("disksText")}</legend>
            {disks.filter((disk) => disk.present).map((disk) => (
                <Checkbox
                    key={disk.key}
                    id={`disk-${disk.key}`}
                    className="lw-above"
                    label={`${disk.device} · ${bytes(disk.size_bytes)}`}
                    description={isEligible(disk) ? [disk.model, ...disk.volumes.flatMap((v) => v.mount_points ?? [])].filter(Boolean).join(" · ") : disk.not_trackable_reason}
                    isDisabled={!isEligible(disk)}
                    isChecked={keys.has(disk.key) && isEligible(disk)}
                    onChange={(_event, on) => toggle(disk.key, on)}
                />
            ))}
        </fieldset>
    );
}
