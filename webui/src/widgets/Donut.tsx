// SPDX-License-Identifier: Apache-2.0
//
// Shares of a whole as a ring, with the number in its middle and a list beside it whose entries lead to the filtered list. The
// picture is decoration: everything it says is in the list.
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { useFormat } from "../i18n/format";
import type { ListSearch } from "./listSearch";
import type { MachineSearch } from "../pages/machines/machineSearch";

export interface Slice {
    key: string;
    label: string;
    value: number;
    color: "success" | "warning" | "danger" | "unknown" | "info";
    to: "/machines" | "/drills";
    search: MachineSearch | ListSearch;
}

const RADIUS = 42;
const AROUND = 2 * Math.PI * RADIUS;

function Ring({ slices, total }: { slices: Slice[]; total: number }) {
    const part = (value: number) => (total > 0 ? (value / total) * AROUND : 0);
    const before = (index: number) => slices.slice(0, index).reduce((sum, slice) => sum + part(slice.value), 0);
    return (
        <svg viewBox="0 0 100 100" className="lw-donut-ring" aria-hidden="true">
            <circle cx="50" cy="50" r={RADIUS} className="lw-donut-track" />
            {slices.map(({ key, value, color }, index) => value > 0 && (
                <circle key={key} cx="50" cy="50" r={RADIUS} className={`lw-fill-${color}`} strokeDasharray={`${part(value)} ${AROUND - part(value)}`} strokeDashoffset={-before(index)} />
            ))}
        </svg>
    );
}

export function Donut({ slices, title, middle }: { slices: Slice[]; title: string; middle?: ReactNode }) {
    const { number } = useFormat();
    const total = slices.reduce((sum, slice) => sum + slice.value, 0);
    return (
        <div className="lw-donut">
            <div className="lw-donut-picture">
                <Ring slices={slices} total={total} />
                <div className="lw-donut-middle">
                    <span className="lw-donut-number">{middle ?? number(total)}</span>
                    <span className="lw-subtle">{title}</span>
                </div>
            </div>
            <ul className="lw-donut-list">
                {slices.map(({ key, label, value, color, to, search }) => (
                    <li key={key}>
                        <span className={`lw-dot lw-fill-${color}`} aria-hidden="true" />
                        <Link to={to} search={search} className="lw-link">{label}</Link>
                        <span className="lw-number">{number(value)}</span>
                    </li>
                ))}
            </ul>
        </div>
    );
}
