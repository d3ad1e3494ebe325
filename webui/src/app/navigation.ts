// SPDX-License-Identifier: Apache-2.0
//
// The menu, top to bottom. A label is a key of app/*.json.
import type { ComponentType } from "react";

import { BellIcon } from "@patternfly/react-icons/dist/dynamic/icons/bell-icon";
import { RedoIcon } from "@patternfly/react-icons/dist/dynamic/icons/redo-icon";
import { RouteIcon } from "@patternfly/react-icons/dist/dynamic/icons/route-icon";
import { StopwatchIcon } from "@patternfly/react-icons/dist/dynamic/icons/stopwatch-icon";
import { LinkIcon } from "@patternfly/react-icons/dist/dynamic/icons/link-icon";
import { TasksIcon } from "@patternfly/react-icons/dist/dynamic/icons/tasks-icon";
import { ListIcon } from "@patternfly/react-icons/dist/dynamic/icons/list-icon";
import { ClusterIcon } from "@patternfly/react-icons/dist/dynamic/icons/cluster-icon";
import { CatalogIcon } from "@patternfly/react-icons/dist/dynamic/icons/catalog-icon";
import { CheckDoubleIcon } from "@patternfly/react-icons/dist/dynamic/icons/check-double-icon";
import { UsersIcon } from "@patternfly/react-icons/dist/dynamic/icons/users-icon";
import { CogIcon } from "@patternfly/react-icons/dist/dynamic/icons/cog-icon";
import { ServerIcon } from "@patternfly/react-icons/dist/dynamic/icons/server-icon";
import { TopologyIcon } from "@patternfly/react-icons/dist/dynamic/icons/topology-icon";
import { TachometerAltIcon } from "@patternfly/react-icons/dist/dynamic/icons/tachometer-alt-icon";

import type { Role } from "../api/session";

export interface NavigationEntry {
    to: "/" | "/machines" | "/map" | "/alerts" | "/failovers" | "/plans" | "/drills" | "/groups" | "/jobs" | "/events" | "/infrastructure" | "/policies" | "/approvals" | "/access" | "/settings";
    label: `nav.${"overview" | "machines" | "map" | "alerts" | "failovers" | "plans" | "drills" | "groups" | "jobs" | "events" | "infrastructure" | "policies" | "approvals" | "access" | "settings"}`;
    icon: ComponentType;
    /** Who sees it. */
    least?: Role;
}

export const navigation: NavigationEntry[] = [
    { to: "/", label: "nav.overview", icon: TachometerAltIcon },
    { to: "/machines", label: "nav.machines", icon: ServerIcon },
    { to: "/map", label: "nav.map", icon: TopologyIcon },
    { to: "/alerts", label: "nav.alerts", icon: BellIcon },
    { to: "/failovers", label: "nav.failovers", icon: RedoIcon },
    { to: "/plans", label: "nav.plans", icon: RouteIcon },
    { to: "/drills", label: "nav.drills", icon: StopwatchIcon },
    { to: "/groups", label: "nav.groups", icon: LinkIcon },
    { to: "/jobs", label: "nav.jobs", icon: TasksIcon },
    { to: "/events", label: "nav.events", icon: ListIcon },
    { to: "/infrastructure", label: "nav.infrastructure", icon: ClusterIcon },
    { to: "/policies", label: "nav.policies", icon: CatalogIcon },
    { to: "/approvals", label: "nav.approvals", icon: CheckDoubleIcon },
    { to: "/access", label: "nav.access", icon: UsersIcon, least: "admin" },
    { to: "/settings", label: "nav.settings", icon: CogIcon },
];
