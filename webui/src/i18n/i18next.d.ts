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
import type overview from "../pages/overview/en.json";

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
            overview: typeof overview;
        };
    }
}
