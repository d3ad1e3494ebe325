// SPDX-License-Identifier: Apache-2.0
//
// How full each vault is and the day on which it will be, at the rate of the last days.
import { Progress, ProgressMeasureLocation } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { useTranslation } from "react-i18next";

import type { Overview } from "../../api/queries";
import { useFormat } from "../../i18n/format";

const WARNING = 0.8;
const DANGER = 0.95;

function Vault({ vault }: { vault: Overview["capacity"][number] }) {
    const { t } = useTranslation("overview");
    const { bytes, percent, ago } = useFormat();
    const total = Number(vault.total_bytes);
    // Others may use the same disk: what counts is how much is left.
    const share = total > 0 ? 1 - Number(vault.free_bytes) / total : 0;
    return (
        <li>
            <Progress
                title={vault.name}
                value={share * 100}
                label={percent(share)}
                measureLocation={ProgressMeasureLocation.top}
                size="sm"
                variant={share >= DANGER ? "danger" : share >= WARNING ? "warning" : undefined}
            />
            <span className="lw-subtle">
                {t("capacity.used", { used: bytes(vault.used_bytes), free: bytes(vault.free_bytes) })}
                {" · "}
                {vault.full_at ? t("capacity.full", { when: ago(vault.full_at) }) : t("capacity.notFull")}
            </span>
        </li>
    );
}

export function CapacityList({ vaults }: { vaults: Overview["capacity"] }) {
    const { t } = useTranslation("overview");
    if (vaults.length === 0) return <p className="lw-subtle">{t("capacity.none")}</p>;
    return <ul className="lw-plain-list">{vaults.map((vault) => <Vault key={vault.vault_id} vault={vault} />)}</ul>;
}
