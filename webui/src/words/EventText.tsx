// SPDX-License-Identifier: Apache-2.0
//
// What happened, and what to do about it.
import type { components } from "../api/schema";
import { useWords } from "./useWords";

export function EventText({ event }: { event: components["schemas"]["Event"] }) {
    const { text, remedy } = useWords().event(event);
    return <>{text}{remedy && <div className="lw-subtle">{remedy}</div>}</>;
}
