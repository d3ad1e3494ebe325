// SPDX-License-Identifier: Apache-2.0
//
// Opening a point as disks, which answers with their addresses; and writing one of its disks to a file on the vault's host.
import { Checkbox } from "@patternfly/react-core/dist/dynamic/components/Checkbox";
import { Form, FormGroup } from "@patternfly/react-core/dist/dynamic/components/Form";
import { FormSelect, FormSelectOption } from "@patternfly/react-core/dist/dynamic/components/FormSelect";
import { TextInput } from "@patternfly/react-core/dist/dynamic/components/TextInput";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call } from "../../api/client";
import { problemOf } from "../../api/problem";
import { disksQuery, type Machine, type Point } from "../../api/queries";
import { useFormat } from "../../i18n/format";
import { Dialog } from "../../widgets/Dialog";

export type PointShown = Pick<Point, "sequence" | "time" | "kind" | "tag" | "changed_bytes">;
/** The vault that has the copy whose point it is. */
export type CopyIn = { vault_id: string; vault_name: string };

interface PointDialogProps {
    machine: Machine;
    point: PointShown;
    copyIn?: CopyIn;
    onClose: () => void;
}

const FORMATS = ["raw", "qcow2", "vpc", "vmdk"] as const;

async function openPoint(machine: Machine, point: PointShown, write: boolean, vault: string | undefined) {
    const job = await call(api.POST("/api/v1/exports", { params: { query: { wait: 30 } }, body: { machine: machine.id, sequence: point.sequence, write, vault } }));
    if (job.status === "failed") throw problemOf(409, { code: job.problem?.code, detail: job.problem?.detail, correction: job.problem?.correction });
    const { items } = await call(api.GET("/api/v1/exports", { params: { query: { machine_id: machine.id, state: "open", limit: 100 } } }));
    return items.find((one) => one.job_id === job.id);
}

export function OpenDialog({ machine, point, copyIn, onClose }: PointDialogProps) {
    const { t } = useTranslation("machine");
    const { moment } = useFormat();
    const client = useQueryClient();
    const [write, setWrite] = useState(false);
    const open = useMutation({ mutationFn: () => openPoint(machine, point, write, copyIn?.vault_id), onSettled: () => client.invalidateQueries({ queryKey: ["exports"] }) });
    return (
        <Dialog title={t("open.title", { sequence: point.sequence })} text={t("open.text", { time: moment(point.time) })} action={t("point.open")} isPending={open.isPending} isDone={open.isSuccess} error={open.error} onAct={() => open.mutate()} onClose={onClose}>
            {open.isSuccess ? (
                <div id="opened">
                    <p>{open.data ? t("open.done") : t("open.later")}</p>
                    {open.data?.disks.map((disk) => <p key={disk.number}><code className="lw-code">{disk.uri}</code></p>)}
                </div>
            ) : copyIn ? (
                <p>{t("open.ofCopy", { vault: copyIn.vault_name })}</p>
            ) : (
                <Checkbox id="open-write" label={t("open.write")} description={t("open.writeText")} isChecked={write} onChange={(_event, on) => setWrite(on)} />
            )}
        </Dialog>
    );
}

export function ExportDialog({ machine, point, copyIn, onClose }: PointDialogProps) {
    const { t } = useTranslation("machine");
    const { t: common } = useTranslation();
    const { moment } = useFormat();
    const disks = (useQuery(disksQuery(machine.id)).data ?? []).filter((disk) => disk.number !== null);
    const [disk, setDisk] = useState<string>();
    const [path, setPath] = useState("");
    const [format, setFormat] = useState<(typeof FORMATS)[number]>("qcow2");
    const number = Number(disk ?? disks[0]?.number ?? 0);
    const write = useMutation({
        mutationFn: () =>
            call(api.POST("/api/v1/machines/{machine_id}/points/{sequence}/export", { params: { path: { machine_id: machine.id, sequence: point.sequence } }, body: { disk: number, path, format, vault: copyIn?.vault_id } })),
    });
    return (
        <Dialog title={t("export.title", { sequence: point.sequence })} text={t("export.text", { time: moment(point.time) })} action={t("point.export")} isPending={write.isPending} isDone={write.isSuccess} isDisabled={!path.startsWith("/")} error={write.error} onAct={() => write.mutate()} onClose={onClose}>
            {write.isSuccess ? (
                <p>{common("jobStarted")}</p>
            ) : (
                <Form>
                    <FormGroup label={t("export.disk")} fieldId="export-disk">
                        <FormSelect id="export-disk" value={String(number)} onChange={(_event, value) => setDisk(value)}>
                            {disks.map((d) => <FormSelectOption key={d.id} value={String(d.number)} label={d.device} />)}
                        </FormSelect>
                    </FormGroup>
                    <FormGroup label={t("export.path")} fieldId="export-path">
                        <TextInput id="export-path" value={path} onChange={(_event, value) => setPath(value)} isRequired />
                    </FormGroup>
                    <FormGroup label={t("export.format")} fieldId="export-format">
                        <FormSelect id="export-format" value={format} onChange={(_event, value) => setFormat(value as typeof format)}>
                            {FORMATS.map((value) => <FormSelectOption key={value} value={value} label={value === "vpc" ? "VHD" : value} />)}
                        </FormSelect>
                    </FormGroup>
                </Form>
            )}
        </Dialog>
    );
}
