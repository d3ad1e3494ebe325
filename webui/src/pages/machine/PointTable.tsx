// SPDX-License-Identifier: Apache-2.0
//
// The chosen point and those before it, with what can be done with one.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table/dist/dynamic/components/Table";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import type { Machine } from "../../api/queries";
import { useMay } from "../../api/session";
import { useFormat } from "../../i18n/format";
import { type CopyIn, ExportDialog, OpenDialog, type PointShown } from "./pointDialogs";

/** `copyIn`: the points are those of the copy in that vault; none of them is the chosen one. */
export function PointTable({ machine, points, copyIn }: { machine: Machine; points: PointShown[]; copyIn?: CopyIn }) {
    const { t } = useTranslation("machine");
    const { t: common } = useTranslation();
    const { moment, bytes, number } = useFormat();
    const mayAct = useMay("operator");
    const [opening, setOpening] = useState<PointShown>();
    const [exporting, setExporting] = useState<PointShown>();
    return (
        <>
            <Table variant="compact" aria-label={t(copyIn ? "tab.points" : "timeline.table")} gridBreakPoint="grid-md">
                <Thead>
                    <Tr>
                        <Th>{t("point.sequence")}</Th><Th>{common("time")}</Th><Th>{t("point.kind")}</Th><Th>{t("point.tag")}</Th><Th>{t("point.changed")}</Th>
                        {mayAct && <Th screenReaderText={common("table.actions")} />}
                    </Tr>
                </Thead>
                <Tbody>
                    {points.map((point, index) => (
                        <Tr key={point.sequence} isRowSelected={index === 0 && !copyIn}>
                            <Td dataLabel={t("point.sequence")} className="lw-number">{number(point.sequence)}</Td>
                            <Td dataLabel={common("time")} className="lw-number">{moment(point.time)}</Td>
                            <Td dataLabel={t("point.kind")}><Label isCompact variant="outline">{common(`point.${point.kind}`)}</Label></Td>
                            <Td dataLabel={t("point.tag")}>{point.tag ?? "–"}</Td>
                            <Td dataLabel={t("point.changed")} className="lw-number">{bytes(point.changed_bytes)}</Td>
                            {mayAct && (
                                <Td isActionCell>
                                    <Flex columnGap={{ default: "columnGapMd" }}>
                                        <Button variant="link" size="sm" isInline onClick={() => setOpening(point)} aria-label={t("point.openOne", { sequence: point.sequence })}>{t("point.open")}</Button>
                                        <Button variant="link" size="sm" isInline onClick={() => setExporting(point)} aria-label={t("point.exportOne", { sequence: point.sequence })}>{t("point.export")}</Button>
                                    </Flex>
                                </Td>
                            )}
                        </Tr>
                    ))}
                </Tbody>
            </Table>
            {opening && <OpenDialog machine={machine} point={opening} copyIn={copyIn} onClose={() => setOpening(undefined)} />}
            {exporting && <ExportDialog machine={machine} point={exporting} copyIn={copyIn} onClose={() => setExporting(undefined)} />}
        </>
    );
}
