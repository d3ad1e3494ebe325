// SPDX-License-Identifier: Apache-2.0
import { GlobeIcon } from "@patternfly/react-icons/dist/dynamic/icons/globe-icon";
import { useTranslation } from "react-i18next";

import { changeLanguage, type Language, LANGUAGES } from "../i18n/language";
import { Choice } from "../widgets/Choice";

const options = (Object.keys(LANGUAGES) as Language[]).map((value) => ({ value, text: LANGUAGES[value].name, lang: LANGUAGES[value].tag }));

export function LanguageChoice() {
    const { t, i18n } = useTranslation();
    return <Choice id="language" label={t("language")} icon={<GlobeIcon />} value={i18n.language as Language} options={options} onChoose={(value) => void changeLanguage(value)} isPlain />;
}
