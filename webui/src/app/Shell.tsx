// SPDX-License-Identifier: Apache-2.0
//
// What is around every page: header with running tasks, menu, and the word when the hub does not answer.
import { Banner } from "@patternfly/react-core/dist/dynamic/components/Banner";
import { Masthead, MastheadBrand, MastheadContent, MastheadLogo, MastheadMain, MastheadToggle } from "@patternfly/react-core/dist/dynamic/components/Masthead";
import { Nav, NavItem, NavList } from "@patternfly/react-core/dist/dynamic/components/Nav";
import { Page, PageSidebar, PageSidebarBody, PageToggleButton } from "@patternfly/react-core/dist/dynamic/components/Page";
import { SkipToContent } from "@patternfly/react-core/dist/dynamic/components/SkipToContent";
import { Toolbar, ToolbarContent, ToolbarGroup, ToolbarItem } from "@patternfly/react-core/dist/dynamic/components/Toolbar";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useLocation, useNavigate } from "@tanstack/react-router";
import { type SyntheticEvent, useEffect } from "react";
import { useTranslation } from "react-i18next";

import { startLive } from "../api/live";
import { asProblem } from "../api/problem";
import { activeJobsQuery } from "../api/queries";
import { useMay } from "../api/session";
import { useFormat } from "../i18n/format";
import { LanguageChoice } from "./LanguageChoice";
import { Logo } from "./Logo";
import { navigation, type NavigationEntry } from "./navigation";
import { RunningTasks } from "./RunningTasks";
import { ThemeChoice } from "./ThemeChoice";
import { UserMenu } from "./UserMenu";

const MAIN = "main";

function Header() {
    const { t } = useTranslation();
    return (
        <Masthead aria-label={t("masthead")}>
            <MastheadMain>
                <MastheadToggle>
                    <PageToggleButton isHamburgerButton aria-label={t("nav.toggle")} id="nav-toggle" />
                </MastheadToggle>
                <MastheadBrand>
                    <MastheadLogo component={(props: object) => <Link {...props} to="/" aria-label={t("home")} />}>
                        <Logo />
                    </MastheadLogo>
                </MastheadBrand>
            </MastheadMain>
            <MastheadContent>
                <Toolbar isFullHeight isStatic>
                    <ToolbarContent>
                        <ToolbarGroup variant="action-group-plain" align={{ default: "alignEnd" }} gap={{ default: "gapNone", md: "gapSm" }}>
                            <ToolbarItem><RunningTasks /></ToolbarItem>
                            <ToolbarItem><ThemeChoice /></ToolbarItem>
                            <ToolbarItem><LanguageChoice /></ToolbarItem>
                        </ToolbarGroup>
                        <ToolbarItem><UserMenu /></ToolbarItem>
                    </ToolbarContent>
                </Toolbar>
            </MastheadContent>
        </Masthead>
    );
}

function MenuEntry({ entry, isActive }: { entry: NavigationEntry; isActive: boolean }) {
    const { t } = useTranslation();
    const navigate = useNavigate();
    const may = useMay(entry.least ?? "viewer");
    const Icon = entry.icon;
    if (!may) return null;
    const go = (event: SyntheticEvent) => {
        event.preventDefault();
        void navigate({ to: entry.to });
    };
    return <NavItem icon={<Icon />} itemId={entry.to} to={entry.to} isActive={isActive} onClick={go}>{t(entry.label)}</NavItem>;
}

function Menu() {
    const { t } = useTranslation();
    const { pathname } = useLocation();
    return (
        <PageSidebar>
            <PageSidebarBody>
                <Nav aria-label={t("nav.label")}>
                    <NavList>
                        {navigation.map((entry) => (
                            <MenuEntry key={entry.to} entry={entry} isActive={entry.to === "/" ? pathname === "/" : pathname.startsWith(entry.to)} />
                        ))}
                    </NavList>
                </Nav>
            </PageSidebarBody>
        </PageSidebar>
    );
}

/** The running tasks are asked for all the time: when that fails, what the page shows is getting old. */
function AwayBanner() {
    const { t } = useTranslation();
    const { clock } = useFormat();
    const { error, dataUpdatedAt, isError } = useQuery(activeJobsQuery);
    if (!isError || ![0, 502, 503, 504].includes(asProblem(error).status)) return null;
    return <Banner color="red" screenReaderText={t("notice.danger")}>{t("away", { time: dataUpdatedAt ? clock(dataUpdatedAt) : "–" })}</Banner>;
}

export function Shell() {
    const { t } = useTranslation();
    const client = useQueryClient();
    useEffect(() => startLive(client, () => undefined), [client]);
    return (
        <Page
            masthead={<Header />}
            sidebar={<Menu />}
            isManagedSidebar
            isContentFilled
            mainContainerId={MAIN}
            banner={<AwayBanner />}
            skipToContent={<SkipToContent href={`#${MAIN}`}>{t("skip")}</SkipToContent>}
        >
            <Outlet />
        </Page>
    );
}
