// SPDX-License-Identifier: Apache-2.0
//
// What happened, and what to do about it.
import type { components } from "../api/schema";
import { useWords } from "./useWords";

export function EventText({ event }: { event: components["schemas"]["Event"] }) {
    const { text, said, remedy } = useWords().event(event);
    return <>{text}{said && <div className="lw-subtle">{said}</div>}{remedy && <div className="lw-subtle">{remedy}</div>}</>;
}
