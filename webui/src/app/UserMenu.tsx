// SPDX-License-Identifier: Apache-2.0
import { Dropdown, DropdownItem, DropdownList } from "@patternfly/react-core/dist/dynamic/components/Dropdown";
import { MenuToggle } from "@patternfly/react-core/dist/dynamic/components/MenuToggle";
import { UserIcon } from "@patternfly/react-icons/dist/dynamic/icons/user-icon";
import { useNavigate, useRouter } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslation } from "react-i18next";

import { useSession, useSignOut } from "../api/session";

export function UserMenu() {
    const { t } = useTranslation();
    const [open, setOpen] = useState(false);
    const session = useSession();
    const signOut = useSignOut();
    const router = useRouter();
    const navigate = useNavigate();
    if (!session) return null;
    const { name, role } = session.user;
    const leave = () => signOut.mutate(undefined, { onSettled: () => void router.invalidate() });
    return (
        <Dropdown
            isOpen={open}
            onOpenChange={setOpen}
            onSelect={() => setOpen(false)}
            popperProps={{ position: "end" }}
            toggle={(ref) => (
                <MenuToggle ref={ref} id="user-menu" icon={<UserIcon />} isExpanded={open} onClick={() => setOpen(!open)} aria-label={t("user.menu", { name })} className="lw-user">
                    <span className="lw-user-name">{name}</span>
                </MenuToggle>
            )}
        >
            <DropdownList aria-label={t("user.menu", { name })}>
                <DropdownItem key="who" isDisabled description={t(`role.${role}`)}>{name}</DropdownItem>
                <DropdownItem key="password" id="change-own-password" onClick={() => void navigate({ to: "/password" })}>{t("user.password")}</DropdownItem>
                <DropdownItem key="out" id="sign-out" onClick={leave}>{t("user.signOut")}</DropdownItem>
            </DropdownList>
        </Dropdown>
    );
}
