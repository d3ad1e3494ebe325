// SPDX-License-Identifier: Apache-2.0
//
// What becomes of one of the machine's cards, or of those in a network.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { useTranslation } from "react-i18next";

import { Field } from "../../widgets/Field";
import { AddressFields } from "./AddressFields";
import { type CardEntry, isAlone } from "./mapping";

interface CardFieldsProps {
    id: string;
    card: CardEntry;
    ofSite: boolean;
    onChange: (card: CardEntry) => void;
    onRemove: () => void;
    /** undefined: it is the first. */
    onRaise?: () => void;
}

export function CardFields({ id, card, ofSite, onChange, onRemove, onRaise }: CardFieldsProps) {
    const { t } = useTranslation("mapping");
    const put = (changes: Partial<CardEntry>) => onChange({ ...card, ...changes });
    const source = card.source.trim();
    return (
        <fieldset id={id} className="lw-mapping-card">
            <legend><strong>{source ? t("cardOf", { source }) : t("card")}</strong></legend>
            <Field id={`${id}-source`} label={t("source")} value={card.source} onChange={(value) => put({ source: value })} hint={ofSite ? t("siteSourceHint") : t("sourceHint")} isRequired />
            <div className="lw-mapping-sides">
                <div className="lw-mapping-side">
                    <Field id={`${id}-network`} label={t("network")} value={card.network} onChange={(network) => put({ network })} hint={t("networkHint")} />
                    <AddressFields id={`${id}-ip`} label={t("ip")} entry={card.address} ofSite={ofSite} onChange={(address) => put({ address })} />
                </div>
                <div className="lw-mapping-side">
                    <Field id={`${id}-test-network`} label={t("testNetwork")} value={card.testNetwork} onChange={(testNetwork) => put({ testNetwork })} hint={isAlone(card) ? t("testNetworkHint") : t("notAlone")} isWrong={!isAlone(card)} />
                    <AddressFields id={`${id}-test-ip`} label={t("testIp")} entry={card.testAddress} ofSite={ofSite} ofTests onChange={(testAddress) => put({ testAddress })} />
                </div>
            </div>
            <Flex columnGap={{ default: "columnGapMd" }} className="lw-above">
                {onRaise && <Button variant="link" isInline onClick={onRaise} aria-label={t("raiseOne", { source })}>{t("raise")}</Button>}
                <Button variant="link" isInline isDanger onClick={onRemove} aria-label={t("removeOne", { source })}>{t("remove")}</Button>
            </Flex>
        </fieldset>
    );
}
