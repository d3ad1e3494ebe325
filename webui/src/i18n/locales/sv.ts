// SPDX-License-Identifier: Apache-2.0
import { resourcesOf } from "../resources";

export default resourcesOf(import.meta.glob<object>(["../../app/sv.json", "../../words/sv.json", "../../pages/*/sv.json"], { eager: true, import: "default" }));
