// SPDX-License-Identifier: Apache-2.0
//
// A labelled text, number or choice of a form, with a line that says what it means.
import { FormGroup, FormHelperText } from "@patternfly/react-core/dist/dynamic/components/Form";
import { FormSelect, FormSelectOption } from "@patternfly/react-core/dist/dynamic/components/FormSelect";
import { HelperText, HelperTextItem } from "@patternfly/react-core/dist/dynamic/components/HelperText";
import { TextInput } from "@patternfly/react-core/dist/dynamic/components/TextInput";
import type { ReactNode } from "react";

interface FieldProps {
    id: string;
    label: string;
    value: string;
    onChange: (value: string) => void;
    hint?: string;
    type?: "text" | "number" | "password";
    isRequired?: boolean;
    isWrong?: boolean;
    autoComplete?: string;
    /** Beside the label: what can be done with the field. */
    labelInfo?: ReactNode;
    /** A choice among these instead of a text. */
    options?: readonly { value: string; text: string; isDisabled?: boolean }[];
}

export function Field({ id, label, value, onChange, hint, type = "text", isRequired, isWrong, autoComplete, labelInfo, options }: FieldProps) {
    return (
        <FormGroup label={label} fieldId={id} isRequired={isRequired} labelInfo={labelInfo}>
            {options ? (
                <FormSelect id={id} value={value} onChange={(_event, chosen) => onChange(chosen)} aria-describedby={hint ? `${id}-hint` : undefined}>
                    {options.map((option) => <FormSelectOption key={option.value} value={option.value} label={option.text} isDisabled={option.isDisabled} />)}
                </FormSelect>
            ) : (
                <TextInput id={id} type={type} isRequired={isRequired} autoComplete={autoComplete ?? "off"} value={value} onChange={(_event, text) => onChange(text)} validated={isWrong ? "error" : "default"} aria-describedby={hint ? `${id}-hint` : undefined} />
            )}
            {hint && (
                <FormHelperText>
                    <HelperText id={`${id}-hint`}><HelperTextItem variant={isWrong ? "error" : "default"}>{hint}</HelperTextItem></HelperText>
                </FormHelperText>
            )}
        </FormGroup>
    );
}
