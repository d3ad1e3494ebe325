// SPDX-License-Identifier: Apache-2.0
//
// Makes keys of texts part of the types: t("no such key") does not compile. A new page adds its line.
import "i18next";

import type app from "../app/en.json";
import type alerts from "../pages/alerts/en.json";
import type login from "../pages/login/en.json";
import type machine from "../pages/machine/en.json";
import type machines from "../pages/machines/en.json";
import type map from "../pages/map/en.json";
import type mapping from "../pages/mapping/en.json";
import type access from "../pages/access/en.json";
import type events from "../pages/events/en.json";
import type approvals from "../pages/approvals/en.json";
import type failback from "../pages/failback/en.json";
import type failover from "../pages/failover/en.json";
import type failovers from "../pages/failovers/en.json";
import type groups from "../pages/groups/en.json";
import type infrastructure from "../pages/infrastructure/en.json";
import type plans from "../pages/plans/en.json";
import type copies from "../pages/copies/en.json";
import type vault from "../pages/vault/en.json";
import type drills from "../pages/drills/en.json";
import type jobs from "../pages/jobs/en.json";
import type protect from "../pages/protect/en.json";
import type restore from "../pages/restore/en.json";
import type policies from "../pages/policies/en.json";
import type settings from "../pages/settings/en.json";
import type overview from "../pages/overview/en.json";
import type words from "../words/en.json";

declare module "i18next" {
    interface CustomTypeOptions {
        defaultNS: "app";
        resources: {
            app: typeof app;
            alerts: typeof alerts;
            login: typeof login;
            machine: typeof machine;
            machines: typeof machines;
            map: typeof map;
            mapping: typeof mapping;
            access: typeof access;
            events: typeof events;
            approvals: typeof approvals;
            failback: typeof failback;
            failover: typeof failover;
            failovers: typeof failovers;
            groups: typeof groups;
            infrastructure: typeof infrastructure;
            jobs: typeof jobs;
            plans: typeof plans;
            copies: typeof copies;
            drills: typeof drills;
            vault: typeof vault;
            policies: typeof policies;
            protect: typeof protect;
            restore: typeof restore;
            settings: typeof settings;
            overview: typeof overview;
            words: typeof words;
        };
    }
}
