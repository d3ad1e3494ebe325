// SPDX-License-Identifier: Apache-2.0
//
// Steps of a task that is asked for one thing after the other: where one is, what is asked now, back and on. Whoever works with a screen reader hears
// the new step: its heading gets the focus.
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Card, CardBody, CardFooter, CardTitle } from "@patternfly/react-core/dist/dynamic/components/Card";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { ProgressStep, ProgressStepper } from "@patternfly/react-core/dist/dynamic/components/ProgressStepper";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { type ReactNode, useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";

interface WizardFrameProps {
    label: string;
    /** Titles of the steps, in order. */
    steps: readonly string[];
    current: number;
    children: ReactNode;
    onBack?: () => void;
    /** What the button says; without it there is none (the last step). */
    next?: string;
    onNext?: () => void;
    isNextDisabled?: boolean;
    isPending?: boolean;
    isDanger?: boolean;
}

export function WizardFrame({ label, steps, current, children, onBack, next, onNext, isNextDisabled, isPending, isDanger }: WizardFrameProps) {
    const { t } = useTranslation();
    const heading = useRef<HTMLHeadingElement>(null);
    const first = useRef(true);
    useEffect(() => {
        if (!first.current) heading.current?.focus();
        first.current = false;
    }, [current]);
    return (
        <PageSection hasBodyWrapper={false} isFilled>
            <ProgressStepper isCenterAligned aria-label={label} className="lw-wizard-steps">
                {steps.map((title, index) => (
                    <ProgressStep key={title} id={`wizard-step-${index}`} titleId={`wizard-step-${index}-title`} variant={index < current ? "success" : index === current ? "info" : "pending"} isCurrent={index === current} aria-label={title}>{title}</ProgressStep>
                ))}
            </ProgressStepper>
            <Card component="section" className="lw-above" data-step={current}>
                <CardTitle><h2 ref={heading} tabIndex={-1} className="lw-wizard-title">{steps[current]}</h2></CardTitle>
                <CardBody>{children}</CardBody>
                {(next ?? onBack) && (
                    <CardFooter>
                        <Flex columnGap={{ default: "columnGapMd" }}>
                            {next && <Button id="wizard-next" variant={isDanger ? "danger" : "primary"} isDisabled={isNextDisabled || isPending} isLoading={isPending} onClick={onNext} spinnerAriaValueText={t("loading")}>{next}</Button>}
                            {onBack && <Button id="wizard-back" variant="secondary" isDisabled={isPending} onClick={onBack}>{t("wizard.back")}</Button>}
                        </Flex>
                    </CardFooter>
                )}
            </Card>
        </PageSection>
    );
}
