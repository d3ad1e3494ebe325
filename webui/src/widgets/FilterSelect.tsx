// SPDX-License-Identifier: Apache-2.0
//
// A filter with several values to tick.
import { Badge } from "@patternfly/react-core/dist/dynamic/components/Badge";
import { MenuToggle } from "@patternfly/react-core/dist/dynamic/components/MenuToggle";
import { Select, SelectList, SelectOption } from "@patternfly/react-core/dist/dynamic/components/Select";
import { useState } from "react";

interface FilterSelectProps {
    id: string;
    label: string;
    options: { value: string; text: string; count?: number }[];
    chosen: string[];
    onChange: (chosen: string[]) => void;
}

export function FilterSelect({ id, label, options, chosen, onChange }: FilterSelectProps) {
    const [open, setOpen] = useState(false);
    const toggle = (value: string) => onChange(chosen.includes(value) ? chosen.filter((c) => c !== value) : [...chosen, value]);
    return (
        <Select
            isOpen={open}
            onOpenChange={setOpen}
            selected={chosen}
            onSelect={(_event, value) => toggle(String(value))}
            isScrollable
            toggle={(ref) => (
                <MenuToggle ref={ref} id={id} isExpanded={open} onClick={() => setOpen(!open)} badge={chosen.length > 0 ? <Badge isRead screenReaderText="">{chosen.length}</Badge> : undefined}>
                    {label}
                </MenuToggle>
            )}
            role="menu"
        >
            <SelectList aria-label={label}>
                {options.map(({ value, text, count }) => (
                    <SelectOption key={value} value={value} hasCheckbox isSelected={chosen.includes(value)}>
                        {text}{count === undefined ? "" : ` (${count})`}
                    </SelectOption>
                ))}
            </SelectList>
        </Select>
    );
}
