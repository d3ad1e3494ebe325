// SPDX-License-Identifier: Apache-2.0
//
// Who gets in: users, API tokens for pipelines, and enrolment tokens for agents, nodes and vaults.
import { useSearch } from "@tanstack/react-router";
import { useTranslation } from "react-i18next";

import { Switch } from "../../widgets/Switch";
import { Enrolment } from "./Enrolment";
import { Tokens } from "./Tokens";
import { Users } from "./Users";

export function AccessPage() {
    const { t } = useTranslation("access");
    const show = useSearch({ from: "/shell/access" }).show ?? "users";
    const above = <Switch label={t("show.label")} value={show} options={(["users", "tokens", "enrolment"] as const).map((value) => ({ value, text: t(`show.${value}`) }))} />;
    if (show === "tokens") return <Tokens above={above} />;
    return show === "enrolment" ? <Enrolment above={above} /> : <Users above={above} />;
}
