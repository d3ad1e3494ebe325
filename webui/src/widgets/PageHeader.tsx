// SPDX-License-Identifier: Apache-2.0
//
// Title, one line about the page, and its actions.
import { Flex, FlexItem } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { PageSection } from "@patternfly/react-core/dist/dynamic/components/Page";
import { Title } from "@patternfly/react-core/dist/dynamic/components/Title";
import type { ReactNode } from "react";

import { usePageTitle } from "./pageTitle";

export function PageHeader({ title, text, actions, labels }: { title: string; text?: ReactNode; actions?: ReactNode; labels?: ReactNode }) {
    usePageTitle(title);
    return (
        <PageSection hasBodyWrapper={false} className="lw-page-header">
            <Flex alignItems={{ default: "alignItemsCenter" }} justifyContent={{ default: "justifyContentSpaceBetween" }}>
                <FlexItem>
                    <Flex alignItems={{ default: "alignItemsCenter" }} columnGap={{ default: "columnGapMd" }}>
                        <Title headingLevel="h1">{title}</Title>
                        {labels}
                    </Flex>
                    {text && <p className="lw-subtle">{text}</p>}
                </FlexItem>
                {actions && <FlexItem>{actions}</FlexItem>}
            </Flex>
        </PageSection>
    );
}
