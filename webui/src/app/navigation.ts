// SPDX-License-Identifier: Apache-2.0
//
// The menu, top to bottom. A label is a key of app/*.json.
import type { ComponentType } from "react";

import { BellIcon } from "@patternfly/react-icons/dist/dynamic/icons/bell-icon";
import { ServerIcon } from "@patternfly/react-icons/dist/dynamic/icons/server-icon";
import { TopologyIcon } from "@patternfly/react-icons/dist/dynamic/icons/topology-icon";
import { TachometerAltIcon } from "@patternfly/react-icons/dist/dynamic/icons/tachometer-alt-icon";

import type { Role } from "../api/session";

export interface NavigationEntry {
    to: "/" | "/machines" | "/map" | "/alerts";
    label: "nav.overview" | "nav.machines" | "nav.map" | "nav.alerts";
    icon: ComponentType;
    /** Who sees it. */
    least?: Role;
}

export const navigation: NavigationEntry[] = [
    { to: "/", label: "nav.overview", icon: TachometerAltIcon },
    { to: "/machines", label: "nav.machines", icon: ServerIcon },
    { to: "/map", label: "nav.map", icon: TopologyIcon },
    { to: "/alerts", label: "nav.alerts", icon: BellIcon },
];
