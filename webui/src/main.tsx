// SPDX-License-Identifier: Apache-2.0
import "@patternfly/react-core/dist/styles/base.css";
import "./app/console.css";

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./app/App";
import { startTheme } from "./app/theme";
import { startLanguage } from "./i18n/language";

startTheme();
await startLanguage();
const root = document.getElementById("root");
if (root) createRoot(root).render(<StrictMode><App /></StrictMode>);
