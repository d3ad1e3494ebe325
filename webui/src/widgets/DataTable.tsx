// SPDX-License-Identifier: Apache-2.0
//
// A sortable table of any number of rows, of which only those in view are in the document (TanStack Virtual). On a narrow screen
// a row becomes a card (PatternFly's grid). Sorting is in the caller's hands, so that it can live in the address.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table/dist/dynamic/components/Table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, type ReactNode, useCallback, useMemo, useRef } from "react";
import { useTranslation } from "react-i18next";

export interface Column<T> {
    key: string;
    label: string;
    cell: (row: T) => ReactNode;
    /** What to sort by; a column without cannot be sorted. null comes last. */
    sortBy?: (row: T) => string | number | null;
    width?: 10 | 15 | 20 | 25 | 30 | 35 | 40;
    isNumber?: boolean;
}

export interface Selection {
    ids: ReadonlySet<string>;
    onChange: (ids: ReadonlySet<string>) => void;
}

interface DataTableProps<T> {
    label: string;
    columns: Column<T>[];
    rows: T[];
    rowId: (row: T) => string;
    rowName: (row: T) => string;
    /** Key of a column, with "-" in front for descending. */
    sort: string;
    onSort: (sort: string) => void;
    selection?: Selection;
    actions?: (row: T) => ReactNode;
    empty?: ReactNode;
    language: string;
    /** A table among other things of a page: as high as its rows, which are few. */
    isShort?: boolean;
}

function sorted<T>(rows: T[], columns: Column<T>[], sort: string, language: string): T[] {
    const down = sort.startsWith("-");
    const by = columns.find((column) => column.key === (down ? sort.slice(1) : sort))?.sortBy;
    if (!by) return rows;
    const collator = new Intl.Collator(language, { numeric: true });
    const compare = (a: string | number, b: string | number) =>
        typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
    return rows
        .map((row) => ({ row, value: by(row) }))
        .sort((a, b) => {
            if (a.value === null || b.value === null) return a.value === b.value ? 0 : a.value === null ? 1 : -1;
            return down ? compare(b.value, a.value) : compare(a.value, b.value);
        })
        .map(({ row }) => row);
}

function Head<T>({ columns, sort, onSort, selection, rows, rowId, hasActions }: Pick<DataTableProps<T>, "columns" | "sort" | "onSort" | "selection" | "rows" | "rowId"> & { hasActions: boolean }) {
    const { t } = useTranslation();
    const down = sort.startsWith("-");
    const key = down ? sort.slice(1) : sort;
    const all = selection !== undefined && rows.length > 0 && rows.every((row) => selection.ids.has(rowId(row)));
    return (
        <Thead>
            <Tr>
                {selection && (
                    <Th modifier="fitContent">
                        <Checkbox id="select-all" aria-label={t("table.selectAll")} isChecked={all} onChange={(_event, on) => selection.onChange(new Set(on ? rows.map(rowId) : []))} />
                    </Th>
                )}
                {columns.map((column, index) => (
                    <Th
                        key={column.key}
                        width={column.width}
                        modifier="nowrap"
                        sort={
                            column.sortBy && {
                                columnIndex: index,
                                sortBy: { index: columns.findIndex((c) => c.key === key), direction: down ? "desc" : "asc" },
                                onSort: () => onSort(key === column.key && !down ? `-${column.key}` : column.key),
                            }
                        }
                    >
                        {column.label}
                    </Th>
                ))}
                {hasActions && <Th screenReaderText={t("table.actions")} />}
            </Tr>
        </Thead>
    );
}

/** Rows that are not in the document, as their height. */
function Spacer({ height, columns }: { height: number; columns: number }) {
    if (height <= 0) return null;
    return <Tr className="lw-spacer" aria-hidden="true"><Td colSpan={columns} style={{ height }} /></Tr>;
}

interface RowProps<T> {
    row: T;
    id: string;
    name: string;
    index: number;
    columns: Column<T>[];
    /** undefined: rows cannot be ticked. */
    isTicked: boolean | undefined;
    onTick: (id: string, on: boolean) => void;
    actions?: (row: T) => ReactNode;
    measure: (element: HTMLElement | null) => void;
}

function PlainRow<T>({ row, id, name, index, columns, isTicked, onTick, actions, measure }: RowProps<T>) {
    const { t } = useTranslation();
    return (
        <Tr ref={measure} data-index={index} data-id={id} aria-rowindex={index + 2}>
            {isTicked !== undefined && (
                <Td modifier="fitContent">
                    <Checkbox id={`select-${id}`} aria-label={t("table.selectRow", { name })} isChecked={isTicked} onChange={(_event, on) => onTick(id, on)} />
                </Td>
            )}
            {columns.map((column) => <Td key={column.key} dataLabel={column.label} className={column.isNumber ? "lw-number" : undefined}>{column.cell(row)}</Td>)}
            {actions && <Td isActionCell>{actions(row)}</Td>}
        </Tr>
    );
}

/** Each frame of scrolling draws the table: rows that were in view before are left as they are. */
const Row = memo(PlainRow) as typeof PlainRow;

export function DataTable<T>({ label, columns, rows, rowId, rowName, sort, onSort, selection, actions, empty, language, isShort }: DataTableProps<T>) {
    const scroller = useRef<HTMLDivElement>(null);
    const shown = useMemo(() => sorted(rows, columns, sort, language), [rows, columns, sort, language]);
    const virtualizer = useVirtualizer({ count: shown.length, getScrollElement: () => scroller.current, estimateSize: () => 49, overscan: 12, getItemKey: (index) => rowId(shown[index] as T) });
    const items = virtualizer.getVirtualItems();
    const width = columns.length + (selection ? 1 : 0) + (actions ? 1 : 0);
    const { ids: ticked, onChange: onTicked } = selection ?? {};
    const tick = useCallback((id: string, on: boolean) => {
        const ids = new Set(ticked);
        if (on) ids.add(id);
        else ids.delete(id);
        onTicked?.(ids);
    }, [ticked, onTicked]);
    if (rows.length === 0 && empty) return empty;
    return (
        // What scrolls must be reachable with the keyboard (axe: scrollable-region-focusable).
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className={isShort ? "lw-scroller lw-scroller-short" : "lw-scroller"} ref={scroller} role="region" aria-label={label} tabIndex={0}>
            <Table aria-label={label} variant="compact" isStickyHeader gridBreakPoint="grid-md" aria-rowcount={shown.length + 1}>
                <Head columns={columns} sort={sort} onSort={onSort} selection={selection} rows={shown} rowId={rowId} hasActions={actions !== undefined} />
                <Tbody>
                    <Spacer height={items[0]?.start ?? 0} columns={width} />
                    {items.map((item) => {
                        const row = shown[item.index] as T;
                        const id = rowId(row);
                        return <Row key={id} row={row} id={id} name={rowName(row)} index={item.index} columns={columns} isTicked={ticked?.has(id)} onTick={tick} actions={actions} measure={virtualizer.measureElement} />;
                    })}
                    <Spacer height={virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0)} columns={width} />
                </Tbody>
            </Table>
        </div>
    );
}
