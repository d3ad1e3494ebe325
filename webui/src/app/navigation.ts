// SPDX-License-Identifier: Apache-2.0
//
// The menu, top to bottom. A label is a key of app/*.json.
import type { ComponentType } from "react";

import { ServerIcon } from "@patternfly/react-icons/dist/dynamic/icons/server-icon";
import { TachometerAltIcon } from "@patternfly/react-icons/dist/dynamic/icons/tachometer-alt-icon";

import type { Role } from "../api/session";

export interface NavigationEntry {
    to: "/" | "/machines";
    label: "nav.overview" | "nav.machines";
    icon: ComponentType;
    /** Who sees it. */
    least?: Role;
}

export const navigation: NavigationEntry[] = [
    { to: "/", label: "nav.overview", icon: TachometerAltIcon },
    { to: "/machines", label: "nav.machines", icon: ServerIcon },
];
