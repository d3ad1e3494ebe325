// SPDX-License-Identifier: Apache-2.0
//
// A button that opens a short menu of which one entry is chosen: theme, language.
import { MenuToggle } from "@patternfly/react-core/dist/dynamic/components/MenuToggle";
import { Select, SelectList, SelectOption } from "@patternfly/react-core/dist/dynamic/components/Select";
import { type ReactNode, useState } from "react";

interface ChoiceProps<T extends string> {
    label: string;
    icon?: ReactNode;
    value: T;
    options: readonly { value: T; text: string; lang?: string }[];
    onChoose: (value: T) => void;
    /** Only the icon; the label is spoken. */
    isPlain?: boolean;
    id?: string;
}

export function Choice<T extends string>({ label, icon, value, options, onChoose, isPlain, id }: ChoiceProps<T>) {
    const [open, setOpen] = useState(false);
    const chosen = options.find((option) => option.value === value);
    return (
        <Select
            isOpen={open}
            onOpenChange={setOpen}
            selected={value}
            onSelect={(_event, choice) => {
                setOpen(false);
                onChoose(choice as T);
            }}
            toggle={(ref) => (
                <MenuToggle
                    ref={ref}
                    id={id}
                    variant={isPlain ? "plain" : "default"}
                    icon={icon}
                    isExpanded={open}
                    onClick={() => setOpen(!open)}
                    aria-label={isPlain ? `${label}: ${chosen?.text ?? ""}` : undefined}
                >
                    {isPlain ? undefined : `${label}: ${chosen?.text ?? ""}`}
                </MenuToggle>
            )}
            popperProps={{ position: "end" }}
        >
            <SelectList aria-label={label}>
                {options.map((option) => (
                    <SelectOption key={option.value} value={option.value} lang={option.lang}>{option.text}</SelectOption>
                ))}
            </SelectList>
        </Select>
    );
}
