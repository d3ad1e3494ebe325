// SPDX-License-Identifier: Apache-2.0
//
// Several lists on one page; which one is the address (`show`).
import { ToggleGroup, ToggleGroupItem } from "@patternfly/react-core/dist/dynamic/components/ToggleGroup";
import { useNavigate } from "@tanstack/react-router";

export function Switch({ label, value, options }: { label: string; value: string; options: readonly { value: string; text: string }[] }) {
    const navigate = useNavigate();
    const choose = (show: string) => void navigate({ to: ".", search: { show }, replace: true });
    return (
        <ToggleGroup aria-label={label} className="lw-switch">
            {options.map((option) => (
                <ToggleGroupItem key={option.value} text={option.text} buttonId={`show-${option.value}`} isSelected={value === option.value} onChange={() => choose(option.value)} />
            ))}
        </ToggleGroup>
    );
}
