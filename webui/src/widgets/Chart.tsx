// SPDX-License-Identifier: Apache-2.0
//
// A graph over time (uPlot, on a canvas) that can be read as a table too. null in a series is a gap and stays one.
import "uplot/dist/uPlot.min.css";

import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table/dist/dynamic/components/Table";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import UPlot from "uplot";

import { useIsDark } from "../app/theme";
import { regionOf, useFormat } from "../i18n/format";

export interface Series {
    label: string;
    values: (number | null)[];
    /** A custom property of the style sheet. */
    color: "--lw-blue" | "--lw-teal" | "--lw-orange" | "--pf-t--global--color--status--danger--default";
    isTarget?: boolean;
    isFilled?: boolean;
}

interface ChartProps {
    title: string;
    /** Seconds since 1970. */
    times: number[];
    series: Series[];
    format: (value: number) => string;
    /** Of the vertical axis: how far apart its marks may be, and what stands beside them: all in one unit. The format of the values otherwise. */
    marks?: { steps: number[]; format: (value: number, largest: number) => string };
}

const HEIGHT = 200;
const X_AXIS = 30; // pixels, for one line of marks
const TABLE_ROWS = 60;

function tokens(element: Element) {
    const style = getComputedStyle(element);
    return (name: string) => style.getPropertyValue(name).trim();
}

/** As wide as the widest mark beside it; there are none (whatever its types say) before the first data. */
function axisWidth(plot: UPlot, values: string[] | null, index: number): number {
    const { font, gap } = plot.axes[index] ?? {};
    if (font) plot.ctx.font = font[0] as string; // uPlot has made it [what the canvas takes, size] by then
    const widest = Math.max(0, ...(values ?? []).map((value) => plot.ctx.measureText(value).width));
    return Math.ceil(widest / devicePixelRatio) + (gap ?? 5) + 2;
}

function options(element: Element, width: number, { series, format, marks }: ChartProps, time: (ms: number, spanS: number) => string): UPlot.Options {
    const token = tokens(element);
    const text = token("--pf-t--global--text--color--subtle");
    const axis = { stroke: text, grid: { stroke: token("--pf-t--global--border--color--default"), width: 1 }, ticks: { show: false }, font: `12px ${getComputedStyle(element).fontFamily}` };
    return {
        width,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false },
        scales: { y: { range: (_plot, _min, max) => [0, Math.max(max * 1.1, 1)] } },
        axes: [
            { ...axis, values: (plot, splits) => splits.map((s) => time(s * 1000, (plot.scales.x?.max ?? 0) - (plot.scales.x?.min ?? 0))), space: 90, size: X_AXIS },
            { ...axis, ...(marks && { incrs: marks.steps }), values: (_plot, splits) => splits.map((value) => (marks ? marks.format(value, Math.max(...splits)) : format(value))), size: axisWidth },
        ],
        series: [
            {},
            ...series.map((s) => ({
                label: s.label,
                stroke: token(s.color),
                width: s.isTarget ? 1.5 : 2,
                dash: s.isTarget ? [6, 5] : undefined,
                fill: s.isFilled ? `${token(s.color)}22` : undefined,
                points: { show: false },
                spanGaps: false,
            })),
        ],
    };
}

function Canvas(props: ChartProps) {
    const holder = useRef<HTMLDivElement>(null);
    const isDark = useIsDark();
    const language = useTranslation().i18n.language;
    const { times, series } = props;
    useEffect(() => {
        const element = holder.current;
        if (!element) return;
        const time = (ms: number, spanS: number) =>
            new Intl.DateTimeFormat(regionOf(language), spanS > 2 * 86_400 ? { month: "short", day: "numeric" } : { hour: "numeric", minute: "2-digit" }).format(ms);
        const plot = new UPlot(options(element, element.clientWidth, props, time), [times, ...series.map((s) => s.values)] as UPlot.AlignedData, element);
        const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
        observer.observe(element);
        return () => {
            observer.disconnect();
            plot.destroy();
        };
        // A new picture for new data, colours or language; the props object itself is new each time.
        // eslint-disable-next-line react-hooks/exhaustive-deps
    }, [times, series, isDark, language]);
    return <div ref={holder} className="lw-chart" aria-hidden="true" />;
}

/** The last rows: what a reader of the table wants first. */
function DataView({ title, times, series, format }: ChartProps) {
    const { moment } = useFormat();
    const { t } = useTranslation();
    const rows = times.map((time, i) => ({ time, values: series.map((s) => s.values[i] ?? null) })).slice(-TABLE_ROWS).reverse();
    return (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls must be reachable
        <div className="lw-chart-table" role="region" aria-label={title} tabIndex={0}>
            <Table variant="compact" aria-label={title} borders={false}>
                <Thead><Tr><Th>{t("time")}</Th>{series.map((s) => <Th key={s.label}>{s.label}</Th>)}</Tr></Thead>
                <Tbody>
                    {rows.map(({ time, values }) => (
                        <Tr key={time}>
                            <Td dataLabel={t("time")}>{moment(time * 1000)}</Td>
                            {values.map((value, i) => <Td key={series[i]?.label} dataLabel={series[i]?.label}>{value === null ? "–" : format(value)}</Td>)}
                        </Tr>
                    ))}
                </Tbody>
            </Table>
        </div>
    );
}

export function Chart(props: ChartProps) {
    const { t } = useTranslation();
    const [asTable, setAsTable] = useState(false);
    const { title, series, format } = props;
    const last = series.map((s) => `${s.label}: ${format(s.values.findLast((v) => v !== null) ?? 0)}`).join(", ");
    return (
        <figure className="lw-figure-box" aria-label={`${title}. ${last}`}>
            <figcaption className="lw-chart-caption">
                {series.map((s) => (
                    <span key={s.label} className="lw-chart-key"><span className={s.isTarget ? "lw-key-line lw-key-dashed" : "lw-key-line"} style={{ borderColor: `var(${s.color})` }} aria-hidden="true" />{s.label}</span>
                ))}
                <Button variant="link" isInline size="sm" onClick={() => setAsTable(!asTable)}>{asTable ? t("asGraph") : t("asTable")}</Button>
            </figcaption>
            {asTable ? <DataView {...props} /> : <Canvas {...props} />}
        </figure>
    );
}
