// SPDX-License-Identifier: Apache-2.0
import { resourcesOf } from "../resources";

export default resourcesOf(import.meta.glob<object>(["../../app/zh.json", "../../words/zh.json", "../../pages/*/zh.json"], { eager: true, import: "default" }));
