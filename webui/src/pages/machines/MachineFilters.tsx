// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { SearchInput } from "@patternfly/react-core/dist/dynamic/components/SearchInput";
import { Toolbar, ToolbarContent, ToolbarGroup, ToolbarItem } from "@patternfly/react-core/dist/dynamic/components/Toolbar";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { FilterSelect } from "../../widgets/FilterSelect";
import { HEALTHS, STATES } from "../../widgets/labels";
import { listOf } from "../../widgets/searchList";
import { copiesOf, type MachineSearch, RPO_FILTERS } from "./machineSearch";

interface Named {
    id: string | null;
    name: string | null;
}

/** What a reference column offers: the things that machines have, by name. */
function named(machines: Machine[], of: (m: Machine) => Named[], none: string) {
    const found = new Map<string, { value: string; text: string; count: number }>();
    for (const machine of machines) {
        for (const { id, name } of of(machine)) {
            const value = id ?? "none";
            const entry = found.get(value) ?? { value, text: name ?? none, count: 0 };
            entry.count++;
            found.set(value, entry);
        }
    }
    return [...found.values()].sort((a, b) => a.text.localeCompare(b.text));
}

function copiesNamed(machine: Machine): Named[] {
    const copies = copiesOf(machine).map((copy) => ({ id: copy.vault_id, name: copy.vault_name }));
    return copies.length > 0 ? copies : [{ id: null, name: null }];
}

interface MachineFiltersProps {
    search: MachineSearch;
    machines: Machine[];
    shown: number;
    selected: number;
    onChange: (changes: Partial<MachineSearch>) => void;
    actions?: ReactNode;
}

export function MachineFilters({ search, machines, shown, selected, onChange, actions }: MachineFiltersProps) {
    const { t } = useTranslation("machines");
    const { t: common } = useTranslation();
    const { number } = useFormat();
    const set = (key: keyof MachineSearch) => (chosen: string[]) => onChange({ [key]: chosen.join(",") || undefined });
    const fixed = (values: readonly string[], of: (m: Machine) => string, text: (value: string) => string) =>
        values.map((value) => ({ value, text: text(value), count: machines.filter((m) => of(m) === value).length })).filter(({ count, value }) => count > 0 || HEALTHS.includes(value as "healthy"));
    const filters = [
        { key: "health", options: fixed(HEALTHS, (m) => m.health, (v) => common(`health.${v as "healthy"}`)) },
        { key: "state", options: fixed(STATES, (m) => m.state, (v) => common(`state.${v as "protected"}`)) },
        { key: "rpo", options: RPO_FILTERS.map((value) => ({ value, text: t(`rpoFilter.${value}`) })) },
        { key: "policy", options: named(machines, (m) => [{ id: m.policy_id, name: m.policy_name }], t("without")) },
        { key: "site", options: named(machines, (m) => [{ id: m.site_id, name: m.site_name }], t("without")) },
        { key: "node", options: named(machines, (m) => [{ id: m.node_id, name: m.node_name }], t("without")) },
        { key: "vault", options: named(machines, (m) => [{ id: m.vault_id, name: m.vault_name }], t("without")) },
        // Where nothing is copied there is nothing to choose from.
        ...(search.copy || machines.some((m) => copiesOf(m).length > 0) ? [{ key: "copy", options: named(machines, copiesNamed, t("without")) } as const] : []),
    ] as const;
    const isFiltered = Boolean(search.q) || filters.some(({ key }) => search[key]);
    const clear = () => onChange({ q: undefined, ...Object.fromEntries(filters.map(({ key }) => [key, undefined])) });
    return (
        <Toolbar inset={{ default: "insetNone" }} className="lw-toolbar">
            <ToolbarContent>
                <ToolbarItem className="lw-search">
                    <SearchInput
                        aria-label={t("search")}
                        placeholder={t("search")}
                        value={search.q ?? ""}
                        onChange={(_event, value) => onChange({ q: value || undefined })}
                        onClear={() => onChange({ q: undefined })}
                        resetButtonLabel={common("table.clearSearch")}
                    />
                </ToolbarItem>
                <ToolbarGroup variant="filter-group">
                    {filters.map(({ key, options }) => (
                        <ToolbarItem key={key}>
                            <FilterSelect id={`filter-${key}`} label={t(`column.${key}`)} options={options} chosen={listOf(search[key]) ?? []} onChange={set(key)} />
                        </ToolbarItem>
                    ))}
                </ToolbarGroup>
                {isFiltered && <ToolbarItem><Button variant="link" onClick={clear}>{common("table.clearFilters")}</Button></ToolbarItem>}
                {actions}
                <ToolbarItem align={{ default: "alignEnd" }} alignSelf="center">
                    <span className="lw-subtle" role="status">
                        {selected > 0 ? `${common("table.selected", { count: selected })} · ` : ""}
                        {common("table.count", { shown: number(shown), total: number(machines.length) })}
                    </span>
                </ToolbarItem>
            </ToolbarContent>
        </Toolbar>
    );
}
