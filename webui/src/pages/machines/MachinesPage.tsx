// SPDX-License-Identifier: Apache-2.0
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { EmptyState, EmptyStateBody } from "@patternfly/react-core/dist/dynamic/components/EmptyState";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { SearchIcon } from "@patternfly/react-icons/dist/dynamic/icons/search-icon";
import { ServerIcon } from "@patternfly/react-icons/dist/dynamic/icons/server-icon";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useDeferredValue, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";

import { type Machine, machinesQuery, policiesQuery, type Policy } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { DataTable } from "../../widgets/DataTable";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { BulkActions } from "./BulkActions";
import { MachineFilters } from "./MachineFilters";
import { useMachineColumns } from "./machineColumns";
import { filterMachines, type MachineSearch } from "./machineSearch";

/** Where nothing is known yet, and where nothing matches. */
function Nothing({ isFiltered }: { isFiltered: boolean }) {
    const { t } = useTranslation("machines");
    const { t: common } = useTranslation();
    return (
        <EmptyState titleText={isFiltered ? common("table.none") : t("none")} headingLevel="h2" icon={isFiltered ? SearchIcon : ServerIcon}>
            <EmptyStateBody>{isFiltered ? common("table.noneText") : t("noneText")}</EmptyStateBody>
        </EmptyState>
    );
}

/** RPO targets by policy. */
function useTargets(policies: Policy[] | undefined): (policyId: string) => number | undefined {
    return useMemo(() => {
        const targets = new Map(policies?.map((policy) => [policy.id, policy.rpo_target_seconds]));
        return (policyId) => targets.get(policyId);
    }, [policies]);
}

export function MachinesPage() {
    const { t, i18n } = useTranslation("machines");
    const { number } = useFormat();
    const search = useSearch({ from: "/shell/machines" });
    const navigate = useNavigate({ from: "/machines" });
    const { data: machines, error, isPending } = useQuery(machinesQuery);
    const { data: policies, error: policiesError } = useQuery(policiesQuery);
    const targetOf = useTargets(policies);
    const mayAct = useMay("operator");
    const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
    const columns = useMachineColumns(targetOf);
    // Typing must not wait for the table.
    const deferred = useDeferredValue(search);
    // Without the policies there are no targets, and a filter by them would call every machine's RPO unknown.
    const lacksTargets = deferred.rpo !== undefined && !policies;
    const shown = useMemo(() => (lacksTargets ? [] : filterMachines(machines ?? [], deferred, targetOf)), [lacksTargets, machines, deferred, targetOf]);
    const change = (changes: Partial<MachineSearch>) =>
        void navigate({ search: (before) => ({ ...before, ...changes }), replace: true });
    return (
        <>
            <PageHeader title={t("title")} text={machines && t("count", { count: machines.length, number: number(machines.length) })} actions={mayAct && <Button id="protect-machine" component={(props) => <Link {...props} to="/protect" />}>{t("protect")}</Button>} />
            <PageSection hasBodyWrapper={false} isFilled>
                <ProblemAlert error={error ?? (lacksTargets ? policiesError : null)} />
                <MachineFilters search={search} machines={machines ?? []} shown={shown.length} selected={selected.size} onChange={change} actions={<BulkActions machines={(machines ?? []).filter((machine) => selected.has(machine.id))} onTick={setSelected} />} />
                {isPending || lacksTargets ? (
                    <Skeleton height="16rem" screenreaderText={t("loading")} />
                ) : (
                    <DataTable<Machine>
                        label={t("title")}
                        columns={columns}
                        rows={shown}
                        rowId={(machine) => machine.id}
                        rowName={(machine) => machine.name}
                        sort={search.sort ?? "name"}
                        onSort={(sort) => change({ sort })}
                        selection={{ ids: selected, onChange: setSelected }}
                        empty={<Nothing isFiltered={(machines?.length ?? 0) > 0} />}
                        language={i18n.language}
                    />
                )}
            </PageSection>
        </>
    );
}
