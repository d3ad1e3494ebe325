// SPDX-License-Identifier: Apache-2.0
//
// A mapping as one enters it: size, and cards in the order in which they count.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { useTranslation } from "react-i18next";

import { Field } from "../../widgets/Field";
import { CardFields } from "./CardFields";
import { type CardEntry, CARDS_MAX, isCpus, isMemory, type MappingEntry, newCard } from "./mapping";

interface MappingFieldsProps {
    entry: MappingEntry;
    ofSite?: boolean;
    /** Cards that the machine has: the next one is proposed. */
    known?: readonly string[];
    onChange: (entry: MappingEntry) => void;
}

export function MappingFields({ entry, ofSite = false, known = [], onChange }: MappingFieldsProps) {
    const { t } = useTranslation("mapping");
    const { cards } = entry;
    const putCards = (next: CardEntry[]) => onChange({ ...entry, cards: next });
    const proposed = known.find((name) => !cards.some((card) => card.source.trim() === name)) ?? (ofSite ? "" : "*");
    const raise = (at: number) => putCards(cards.map((card, i) => (i === at - 1 ? (cards[at] as CardEntry) : i === at ? (cards[at - 1] as CardEntry) : card)));
    return (
        <>
            <Field id="mapping-cpus" type="number" label={t("cpus")} value={entry.cpus} onChange={(cpus) => onChange({ ...entry, cpus })} hint={t("cpusHint")} isWrong={!isCpus(entry.cpus)} />
            <Field id="mapping-memory" type="number" label={t("memory")} value={entry.memoryMib} onChange={(memoryMib) => onChange({ ...entry, memoryMib })} hint={t("memoryHint")} isWrong={!isMemory(entry.memoryMib)} />
            {cards.map((card, at) => (
                <CardFields
                    key={card.key}
                    id={`card-${at}`}
                    card={card}
                    ofSite={ofSite}
                    onChange={(changed) => putCards(cards.map((one) => (one.key === card.key ? changed : one)))}
                    onRemove={() => putCards(cards.filter((one) => one.key !== card.key))}
                    onRaise={at > 0 ? () => raise(at) : undefined}
                />
            ))}
            <div>
                <Button id="add-card" variant="secondary" isDisabled={cards.length >= CARDS_MAX} onClick={() => putCards([...cards, newCard(proposed)])}>{t("addCard")}</Button>
                <p className="lw-subtle lw-above">{t("order")}</p>
            </div>
        </>
    );
}
