// SPDX-License-Identifier: Apache-2.0
//
// A page that is a list: title, a search over all columns' texts, a table whose sorting and search are the address, and what is shown when there
// is nothing.
import { EmptyState, EmptyStateBody } from "@patternfly/react-core/dist/dynamic/components/EmptyState";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { SearchInput } from "@patternfly/react-core/dist/dynamic/components/SearchInput";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core/dist/dynamic/components/Toolbar";
import { SearchIcon } from "@patternfly/react-icons/dist/dynamic/icons/search-icon";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type ComponentType, type ReactNode, useDeferredValue, useMemo } from "react";
import { useTranslation } from "react-i18next";

import { useFormat } from "../i18n/format";
import { type Column, DataTable } from "./DataTable";
import type { ListSearch } from "./listSearch";
import { PageHeader } from "./PageHeader";
import { ProblemAlert } from "./ProblemAlert";

export interface ListPageProps<T> {
    title: string;
    text?: ReactNode;
    query: { data: T[] | undefined; error: unknown; isPending: boolean };
    columns: Column<T>[];
    rowId: (row: T) => string;
    rowName: (row: T) => string;
    /** What the search looks through. */
    words: (row: T) => string;
    sort: string;
    none: { title: string; text: string; icon: ComponentType };
    headerActions?: ReactNode;
    rowActions?: (row: T) => ReactNode;
    filters?: ReactNode;
    /** Above the table: another list's tabs, a notice. */
    above?: ReactNode;
    /** Under it: that there is more. */
    below?: ReactNode;
}

/** Rows that hold every word of the search. */
function matching<T>(rows: T[], text: string, words: (row: T) => string): T[] {
    const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
    return wanted.length === 0 ? rows : rows.filter((row) => {
        const all = words(row).toLowerCase();
        return wanted.every((word) => all.includes(word));
    });
}

export function ListPage<T>({ title, text, query, columns, rowId, rowName, words, sort, none, headerActions, rowActions, filters, above, below }: ListPageProps<T>) {
    const { t, i18n } = useTranslation();
    const { number } = useFormat();
    const search: ListSearch = useSearch({ strict: false });
    const navigate = useNavigate();
    const deferred = useDeferredValue(search.q ?? "");
    const rows = query.data;
    const shown = useMemo(() => matching(rows ?? [], deferred, words), [rows, deferred, words]);
    const change = (changes: ListSearch) => void navigate({ to: ".", search: (before: object) => ({ ...before, ...changes }), replace: true });
    const isFiltered = (rows?.length ?? 0) > 0;
    return (
        <>
            <PageHeader title={title} text={text} actions={headerActions} />
            <PageSection hasBodyWrapper={false} isFilled>
                {above}
                <ProblemAlert error={query.error} />
                <Toolbar inset={{ default: "insetNone" }} className="lw-toolbar">
                    <ToolbarContent>
                        <ToolbarItem className="lw-search">
                            <SearchInput
                                aria-label={t("table.search")}
                                placeholder={t("table.search")}
                                value={search.q ?? ""}
                                onChange={(_event, value) => change({ q: value || undefined })}
                                onClear={() => change({ q: undefined })}
                                resetButtonLabel={t("table.clearSearch")}
                            />
                        </ToolbarItem>
                        {filters}
                        <ToolbarItem align={{ default: "alignEnd" }} alignSelf="center">
                            <span className="lw-subtle" role="status">{t("table.count", { shown: number(shown.length), total: number(rows?.length ?? 0) })}</span>
                        </ToolbarItem>
                    </ToolbarContent>
                </Toolbar>
                {query.isPending ? (
                    <Skeleton height="16rem" screenreaderText={t("table.loading")} />
                ) : (
                    <DataTable<T>
                        label={title}
                        columns={columns}
                        rows={shown}
                        rowId={rowId}
                        rowName={rowName}
                        sort={search.sort ?? sort}
                        onSort={(chosen) => change({ sort: chosen })}
                        actions={rowActions}
                        empty={
                            <EmptyState titleText={isFiltered ? t("table.none") : none.title} headingLevel="h2" icon={isFiltered ? SearchIcon : none.icon}>
                                <EmptyStateBody>{isFiltered ? t("table.noneText") : none.text}</EmptyStateBody>
                            </EmptyState>
                        }
                        language={i18n.language}
                    />
                )}
                {below}
            </PageSection>
        </>
    );
}
