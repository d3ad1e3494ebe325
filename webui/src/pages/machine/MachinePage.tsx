// SPDX-License-Identifier: Apache-2.0
//
// One machine: how it is and why, what can be done, its graphs, its recovery points, its disks and what happened to it.
import { Breadcrumb, BreadcrumbItem } from "@patternfly/react-core/dist/dynamic/components/Breadcrumb";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Skeleton } from "@patternfly/react-core/dist/dynamic/components/Skeleton";
import { Tab as PfTab, Tabs, TabTitleText } from "@patternfly/react-core/dist/dynamic/components/Tabs";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";

import { type Machine, machineQuery } from "../../api/queries";
import { CopyProgress } from "../../widgets/CopyProgress";
import { isCopying } from "../../widgets/copyProgress";
import { HealthLabel, StateLabel } from "../../widgets/labels";
import { Notice } from "../../widgets/Notice";
import { PageHeader } from "../../widgets/PageHeader";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { useCause } from "../../words/useWords";
import { MachineCopies } from "../copies/MachineCopies";
import { MachineMapping } from "../mapping/MachineMapping";
import { DiskList } from "./DiskList";
import { HistoryGraphs } from "./HistoryGraphs";
import { MachineActions } from "./MachineActions";
import { MachineEvents } from "./MachineEvents";
import { MachineFacts } from "./MachineFacts";
import { type Tab, TABS } from "./route";
import { Timeline } from "./Timeline";

function Cause({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    const { cause, remedy } = useCause()(machine);
    if (!cause) return null;
    const variant = machine.health === "critical" ? "danger" : machine.health === "warning" ? "warning" : "info";
    return (
        <Notice variant={variant} isInline title={cause} component="h2" className="lw-below">
            {remedy && <p><strong>{t("remedy")}</strong> {remedy}</p>}
        </Notice>
    );
}

function TabBody({ tab, machine }: { tab: Tab; machine: Machine }) {
    switch (tab) {
        case "status":
            return <><HistoryGraphs machine={machine} /><MachineFacts machine={machine} /></>;
        case "points":
            return <Timeline machine={machine} />;
        case "copies":
            return <MachineCopies machine={machine} />;
        case "disks":
            return <DiskList machine={machine} />;
        case "mapping":
            return <MachineMapping machine={machine} />;
        case "events":
            return <MachineEvents machine={machine} />;
    }
}

function MachineBody({ machine }: { machine: Machine }) {
    const { t } = useTranslation("machine");
    const { t: machines } = useTranslation("machines");
    const search = useSearch({ from: "/shell/machines/$machineId" });
    const navigate = useNavigate({ from: "/machines/$machineId" });
    const tab = search.tab ?? "status";
    const tabs = useRef<HTMLDivElement>(null);
    // A narrow screen shows some of the tabs: the chosen one is among them.
    useEffect(() => {
        tabs.current?.querySelector(".pf-m-current")?.scrollIntoView({ block: "nearest", inline: "center" });
    }, [tab]);
    return (
        <>
            <PageSection hasBodyWrapper={false} type="breadcrumb">
                <Breadcrumb aria-label={t("breadcrumb")}>
                    <BreadcrumbItem render={({ className }) => <Link to="/machines" className={className}>{machines("title")}</Link>} />
                    <BreadcrumbItem isActive>{machine.name}</BreadcrumbItem>
                </Breadcrumb>
            </PageSection>
            <PageHeader
                title={machine.name}
                text={`${machine.hostname} · ${machine.os_name}${machine.online ? "" : ` · ${machines("offline")}`}`}
                labels={<><HealthLabel health={machine.health} /><StateLabel state={machine.state} /></>}
                actions={<MachineActions machine={machine} />}
            />
            <PageSection hasBodyWrapper={false} isFilled>
                <Cause machine={machine} />
                {isCopying(machine) && <CopyProgress id="copy-progress" machine={machine} title={t(`copy.${machine.state === "resynchronizing" ? "resynchronizing" : "initial_replication"}`)} />}
                <div ref={tabs}>
                    <Tabs activeKey={tab} onSelect={(_event, key) => void navigate({ search: (before) => ({ ...before, tab: key as Tab }), replace: true })} aria-label={t("tabs")}>
                        {TABS.map((key) => (
                            <PfTab key={key} eventKey={key} title={<TabTitleText>{t(`tab.${key}`)}</TabTitleText>}>
                                {key === tab && <div className="lw-tab-body"><TabBody tab={tab} machine={machine} /></div>}
                            </PfTab>
                        ))}
                    </Tabs>
                </div>
            </PageSection>
        </>
    );
}

export function MachinePage() {
    const { t } = useTranslation();
    const { machineId } = useParams({ from: "/shell/machines/$machineId" });
    const { data, error } = useQuery(machineQuery(machineId));
    if (data) return <MachineBody machine={data} />;
    return (
        <PageSection hasBodyWrapper={false} isFilled>
            {error ? <ProblemAlert error={error} /> : <Skeleton height="20rem" screenreaderText={t("loading")} />}
        </PageSection>
    );
}
