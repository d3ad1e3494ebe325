// SPDX-License-Identifier: Apache-2.0
//
// The vaults that keep a copy of a machine's points besides the one that it is replicated to.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { EmptyState, EmptyStateActions, EmptyStateBody, EmptyStateFooter } from "@patternfly/react-core/dist/dynamic/components/EmptyState";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { CopyIcon } from "@patternfly/react-icons/dist/dynamic/icons/copy-icon";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { type Machine, vaultsQuery } from "../../api/queries";
import { useMay } from "../../api/session";
import { DataTable } from "../../widgets/DataTable";
import { Notice } from "../../widgets/Notice";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { useCopyColumns } from "./copyColumns";
import { CreateCopy, RemoveCopy, UseCopy } from "./copyDialogs";
import { CopyPoints } from "./CopyPoints";
import { copiesQuery, type Copy } from "./copyQueries";

interface Asked {
    what: "create" | "use" | "remove";
    copy?: Copy;
}

/** Vaults that are known not to be connected. */
function useAway(): ReadonlySet<string> {
    const { data } = useQuery(vaultsQuery);
    return new Set(data?.filter((vault) => !vault.online).map((vault) => vault.id));
}

function Dialogs({ machine, copies, asked, away, onClose }: { machine: Machine; copies: Copy[]; asked: Asked; away: ReadonlySet<string>; onClose: () => void }) {
    if (asked.what === "create") return <CreateCopy machine={machine} copies={copies} onClose={onClose} />;
    if (!asked.copy) return null;
    if (asked.what === "use") return <UseCopy copy={asked.copy} onClose={onClose} />;
    return <RemoveCopy copy={asked.copy} isAway={away.has(asked.copy.vault_id)} onClose={onClose} />;
}

export function MachineCopies({ machine }: { machine: Machine }) {
    const { t, i18n } = useTranslation("copies");
    const { t: common } = useTranslation();
    const shown = useSearch({ from: "/shell/machines/$machineId" }).copy;
    const navigate = useNavigate({ from: "/machines/$machineId" });
    const mayAct = useMay("operator");
    const columns = useCopyColumns("machine");
    const away = useAway();
    const { data: copies, error } = useQuery(copiesQuery(machine.id));
    const [sort, setSort] = useState("vault");
    const [asked, setAsked] = useState<Asked>();
    const show = (copy: string | undefined) => void navigate({ search: (before) => ({ ...before, copy }), replace: true });
    const open = copies?.find((copy) => copy.vault_id === shown && copy.state !== "ending");
    const lost = copies?.find((copy) => away.has(copy.source_vault_id) && copy.state !== "ending");
    const create = mayAct && machine.state !== "unprotected" && <Button id="create-copy" variant={copies?.length ? "secondary" : "primary"} onClick={() => setAsked({ what: "create" })}>{t("create.button")}</Button>;
    const actions = (copy: Copy) => (
        <Flex columnGap={{ default: "columnGapMd" }} flexWrap={{ default: "nowrap" }}>
            <Button variant="link" isInline data-action="points" onClick={() => show(copy.vault_id)} aria-label={t("points.title", { vault: copy.vault_name })}>{t("points.button")}</Button>
            {mayAct && away.has(copy.source_vault_id) && copy.source_sequence > 0 && copy.state !== "ending" && <Button variant="link" isInline isDanger data-action="use" onClick={() => setAsked({ what: "use", copy })}>{t("use.short")}</Button>}
            {mayAct && copy.state !== "ending" && <Button variant="link" isInline isDanger data-action="remove" onClick={() => setAsked({ what: "remove", copy })}>{t("remove.button")}</Button>}
        </Flex>
    );
    if (!copies) return error ? <ProblemAlert error={error} /> : <Skeleton height="12rem" screenreaderText={common("loading")} />;
    return (
        <div id="copies">
            {lost && <Notice variant="warning" isInline component="h2" title={t("lost", { vault: lost.source_vault_name })} className="lw-below"><p>{t("lostText")}</p></Notice>}
            {copies.length > 0 && <Flex justifyContent={{ default: "justifyContentSpaceBetween" }} className="lw-below"><p className="lw-subtle">{t("text")}</p>{create}</Flex>}
            <DataTable<Copy>
                label={t("title")}
                columns={columns}
                rows={copies}
                rowId={(copy) => copy.vault_id}
                rowName={(copy) => copy.vault_name}
                sort={sort}
                onSort={setSort}
                actions={actions}
                isShort
                language={i18n.language}
                empty={
                    <EmptyState titleText={t("none")} headingLevel="h2" icon={CopyIcon}>
                        <EmptyStateBody>{t("noneText")}</EmptyStateBody>
                        <EmptyStateFooter><EmptyStateActions>{create}</EmptyStateActions></EmptyStateFooter>
                    </EmptyState>
                }
            />
            {open && <CopyPoints key={open.vault_id} machine={machine} copy={open} onClose={() => show(undefined)} />}
            {asked && <Dialogs machine={machine} copies={copies} asked={asked} away={away} onClose={() => setAsked(undefined)} />}
        </div>
    );
}
