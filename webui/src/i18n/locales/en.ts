// SPDX-License-Identifier: Apache-2.0
import { resourcesOf } from "../resources";

export default resourcesOf(import.meta.glob<object>(["../../app/en.json", "../../words/en.json", "../../pages/*/en.json"], { eager: true, import: "default" }));
