// SPDX-License-Identifier: Apache-2.0
//
// Which point the replica starts from: the latest (of now, not of later), the latest that an application or a file system agreed to, or one from the timeline.
import { Radio } from "@patternfly/react-core/dist/dynamic/components/Radio";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";

import { type Machine, type Point, pointAtQuery } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { TimelinePicker } from "../machine/Timeline";
import { newestPointQuery } from "./failoverQueries";

const WAYS = ["latest", "application", "filesystem", "timeline"] as const;
type Way = (typeof WAYS)[number];

export function PointChoice({ machine, point, onChoose }: { machine: Machine; point: Point | undefined; onChoose: (point: Point | undefined) => void }) {
    const { t } = useTranslation("failover");
    const { moment, ago, number } = useFormat();
    // Who comes back to this step finds what was chosen, and not the latest of now.
    const [way, setWay] = useState<Way>(point ? "timeline" : "latest");
    const [zoom, setZoom] = useState(600);
    const [at, setAt] = useState(() => (point ? Date.parse(point.time) : Date.now()));
    const newest = {
        latest: useQuery(newestPointQuery(machine.id, "")),
        application: useQuery(newestPointQuery(machine.id, "application")),
        filesystem: useQuery(newestPointQuery(machine.id, "filesystem")),
    };
    const chosenAt = useQuery({ ...pointAtQuery(machine.id, at), enabled: way === "timeline" }).data?.items[0];
    const wanted = way === "timeline" ? chosenAt : (newest[way].data ?? undefined);
    const take = (one: Way) => {
        setWay(one);
        if (one !== "timeline") void newest[one].refetch();
    };
    useEffect(() => {
        if (wanted?.sequence !== point?.sequence) onChoose(wanted);
    }, [wanted, point, onChoose]);
    const says = (one: Point | null | undefined) => (one ? `${number(one.sequence)} · ${moment(one.time)} · ${ago(one.time)}` : t("noPoint"));
    return (
        <fieldset id="point-choice" data-sequence={point?.sequence}>
            <legend>{t("pointText", { name: machine.name })}</legend>
            {WAYS.map((one) => (
                <Radio key={one} id={`point-${one}`} name="point" className="lw-above" label={t(`way.${one}`)} description={one === "timeline" ? undefined : says(newest[one].data)} isChecked={way === one} isDisabled={one !== "timeline" && newest[one].data === null} onChange={() => take(one)} />
            ))}
            {way === "timeline" && <div className="lw-above"><TimelinePicker machine={machine} zoom={zoom} at={at} onChange={(changes) => { if (changes.zoom) setZoom(changes.zoom); if (changes.at) setAt(changes.at); }} /></div>}
        </fieldset>
    );
}
