// SPDX-License-Identifier: Apache-2.0
//
// A copy or comparison of a machine as it goes: how much is done, how fast, how long it will take.
import { Progress } from "@patternfly/react-core/dist/dynamic/components/Progress";
import { useTranslation } from "react-i18next";

import type { Machine } from "../api/queries";
import { useFormat } from "../i18n/format";
import { copyShare } from "./copyProgress";

type Shown = Pick<Machine, "initial_done_bytes" | "initial_total_bytes" | "throughput_bytes_per_second" | "remaining_seconds">;

const NOTHING: Shown = { initial_done_bytes: 0, initial_total_bytes: 0, throughput_bytes_per_second: 0, remaining_seconds: 0 };

/** machine: undefined until it is known. isOver: of what is shown then only the amount is true still. */
export function CopyProgress({ machine = NOTHING, title, isOver = false, id }: { machine?: Shown | undefined; title: string; isOver?: boolean; id?: string }) {
    const { t } = useTranslation();
    const { bytes, rate, span, percent } = useFormat();
    const share = isOver ? 1 : copyShare(machine);
    const facts = [
        machine.initial_total_bytes > 0 && t("copy.amount", { done: bytes(machine.initial_done_bytes), total: bytes(machine.initial_total_bytes) }),
        !isOver && machine.throughput_bytes_per_second > 0 && rate(machine.throughput_bytes_per_second),
        !isOver && machine.remaining_seconds > 0 && t("copy.remaining", { time: span(machine.remaining_seconds) }),
    ];
    return (
        <div id={id} className="lw-above lw-below">
            <Progress value={share * 100} label={percent(share)} title={title} aria-label={title} />
            <p className="lw-subtle">{facts.filter(Boolean).join(" · ")}</p>
        </div>
    );
}
