// SPDX-License-Identifier: Apache-2.0
//
// The recovery points of a machine, from a month down to a minute. In a short span each point is a line, by kind; in a long one bars
// say how many were made, and the points that are not crash-consistent are lines. Where there are none is shown as a gap. A native
// range steps through time with the keyboard; the newest point at or before its moment is the chosen one, told in words and in a table.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Card, CardBody, CardTitle } from "@patternfly/react-core/dist/dynamic/components/Card";
import { ToggleGroup, ToggleGroupItem } from "@patternfly/react-core/dist/dynamic/components/ToggleGroup";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";

import { historyQuery, type Machine, pointAtQuery, pointsQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { PointTable } from "./PointTable";
import { type OneMachineSearch, ZOOMS_S } from "./route";
import { BAND_HEIGHT, BAND_WIDTH, barsOf, gapsOf, KINDS, linesOf, type Mark } from "./timelineBand";

/** Up to this span every point is fetched (at a point a second some 600). */
const EACH_POINT_S = 600;
const SPECIAL = "filesystem,application";

const TICK_MS = 5000;

function useNow(): number {
    const [now, setNow] = useState(() => Date.now());
    useEffect(() => {
        const timer = setInterval(() => setNow(Date.now()), TICK_MS);
        return () => clearInterval(timer);
    }, []);
    return now;
}

/** What the band shows between two moments. */
function useBand(machine: Machine, from: number, to: number, now: number) {
    const isShort = (to - from) / 1000 <= EACH_POINT_S;
    const points = useQuery(pointsQuery(machine.id, from, to, isShort ? undefined : SPECIAL));
    const hours = Math.max(1, Math.ceil((now - from) / 3_600_000));
    const history = useQuery({ ...historyQuery(machine.id, hours), enabled: !isShort });
    return useMemo(() => {
        const marks: Mark[] = (points.data ?? []).map((p) => ({ time: Date.parse(p.time), kind: p.kind }));
        const data = history.data;
        const error = points.error ?? history.error;
        if (isShort) return { marks, bars: [], gaps: gapsOf(marks.map((m) => m.time), Math.max(5000, (to - from) / 60), Math.min(to, now)), error };
        if (!data?.from) return { marks, bars: [], gaps: [], error };
        return { marks, ...barsOf(data.points, Date.parse(data.from), data.step_seconds * 1000), error };
    }, [points.data, points.error, history.data, history.error, isShort, from, to, now]);
}

function Band({ machine, from, to, at, now }: { machine: Machine; from: number; to: number; at: number; now: number }) {
    const { marks, bars, gaps, error } = useBand(machine, from, to, now);
    const x = (time: number) => Math.min(BAND_WIDTH, Math.max(0, ((time - from) / (to - from)) * BAND_WIDTH));
    return (
        <>
            <ProblemAlert error={error} />
            <svg viewBox={`0 0 ${BAND_WIDTH} ${BAND_HEIGHT}`} preserveAspectRatio="none" className="lw-band" aria-hidden="true">
                {gaps.filter((g) => g.to > from && g.from < to).map((g) => <rect key={g.from} x={x(g.from)} width={x(g.to) - x(g.from)} y="0" height={BAND_HEIGHT} className="lw-band-gap" />)}
                {bars.filter((b) => b.to > from && b.from < to).map((b) => <rect key={b.from} x={x(b.from)} width={Math.max(0.5, x(b.to) - x(b.from) - 0.4)} y={BAND_HEIGHT - 6 - 24 * b.share} height={6 + 24 * b.share} className="lw-band-crash" stroke="none" />)}
                {KINDS.map((kind) => <path key={kind} d={linesOf(marks, kind, from, to)} className={`lw-band-${kind}`} />)}
                <line x1={x(at)} x2={x(at)} y1="0" y2={BAND_HEIGHT} className="lw-band-cursor" />
            </svg>
        </>
    );
}

function Legend() {
    const { t } = useTranslation("machine");
    const { t: common } = useTranslation();
    return (
        <p className="lw-chart-caption">
            {KINDS.map((kind) => (
                <span key={kind} className="lw-chart-key"><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" className={`lw-band-${kind}`} stroke="none" /></svg>{common(`point.${kind}`)}</span>
            ))}
            <span className="lw-chart-key"><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" className="lw-band-gap" /></svg>{t("timeline.gap")}</span>
        </p>
    );
}

interface PickerProps {
    machine: Machine;
    /** Width of the window in seconds, and the moment in milliseconds since 1970. */
    zoom: number;
    at: number;
    onChange: (changes: { zoom?: number; at?: number }) => void;
}

/** The band with its range: chooses the newest point at or before a moment. */
export function TimelinePicker({ machine, zoom, at, onChange }: PickerProps) {
    const { t } = useTranslation("machine");
    const { t: common } = useTranslation();
    const { moment, span } = useFormat();
    const now = useNow();
    // The window ends now, or lies around a moment that is further back than the window is wide.
    const width = zoom * 1000;
    const to = at > now - width ? Math.max(now, at) : at + width / 2;
    const from = to - width;
    const { data, error } = useQuery(pointAtQuery(machine.id, at));
    const chosen = data?.items[0];
    const text = chosen
        ? t("timeline.chosen", { sequence: chosen.sequence, time: moment(chosen.time), kind: common(`point.${chosen.kind}`) })
        : t("timeline.none");
    return (
        <>
            <Flex justifyContent={{ default: "justifyContentSpaceBetween" }} className="lw-below">
                <ToggleGroup aria-label={t("timeline.zoom")} isCompact>
                    {ZOOMS_S.map((z) => <ToggleGroupItem key={z} text={span(z)} buttonId={`zoom-${z}`} isSelected={z === zoom} onChange={() => onChange({ zoom: z, at: Math.round(at) })} />)}
                </ToggleGroup>
                <Flex columnGap={{ default: "columnGapSm" }}>
                    <Button variant="secondary" size="sm" onClick={() => onChange({ at: Math.round(at - width / 2) })}>{t("timeline.earlier")}</Button>
                    <Button variant="secondary" size="sm" onClick={() => onChange({ at: Math.min(Date.now(), Math.round(at + width / 2)) })}>{t("timeline.later")}</Button>
                    <Button variant="secondary" size="sm" onClick={() => onChange({ at: Date.now() })}>{t("timeline.now")}</Button>
                </Flex>
            </Flex>
            <Legend />
            <Band machine={machine} from={from} to={to} at={at} now={now} />
            <input
                type="range"
                id="timeline-range"
                className="lw-range"
                aria-label={t("timeline.range")}
                aria-valuetext={text}
                min={from}
                max={to}
                step={Math.max(100, Math.round(width / 600))}
                value={at}
                onChange={(event) => onChange({ at: Number(event.target.value) })}
            />
            <div className="lw-band-ends lw-subtle"><span>{moment(from)}</span><span>{moment(to)}</span></div>
            <p role="status" id="chosen-point" className="lw-above"><strong>{text}</strong></p>
            <ProblemAlert error={error} />
        </>
    );
}

export function Timeline({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    const search = useSearch({ from: "/shell/machines/$machineId" });
    const navigate = useNavigate({ from: "/machines/$machineId" });
    const now = useNow();
    const at = search.at ?? now;
    const { data } = useQuery(pointAtQuery(machine.id, at));
    const change = (changes: Partial<OneMachineSearch>) => void navigate({ search: (before) => ({ ...before, ...changes }), replace: true });
    return (
        <Card component="section">
            <CardTitle component="h2">{t("timeline.title")}</CardTitle>
            <CardBody>
                <TimelinePicker machine={machine} zoom={search.zoom ?? 600} at={at} onChange={change} />
                <PointTable machine={machine} points={data?.items ?? []} />
            </CardBody>
        </Card>
    );
}
