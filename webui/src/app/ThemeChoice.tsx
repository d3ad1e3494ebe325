// SPDX-License-Identifier: Apache-2.0
import { AdjustIcon } from "@patternfly/react-icons/dist/dynamic/icons/adjust-icon";
import { useTranslation } from "react-i18next";

import { Choice } from "../widgets/Choice";
import { setTheme, THEMES, useTheme } from "./theme";

export function ThemeChoice() {
    const { t } = useTranslation();
    const theme = useTheme();
    const options = THEMES.map((value) => ({ value, text: t(`theme.${value}`) }));
    return <Choice id="theme" label={t("theme.label")} icon={<AdjustIcon />} value={theme} options={options} onChoose={setTheme} isPlain />;
}
