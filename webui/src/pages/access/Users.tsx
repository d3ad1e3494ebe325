// SPDX-License-Identifier: Apache-2.0
import { Button } from "@patternfly/react-core/dist/dynamic/components/Button";
import { Label } from "@patternfly/react-core/dist/dynamic/components/Label";
import { Flex } from "@patternfly/react-core/dist/dynamic/layouts/Flex";
import { UsersIcon } from "@patternfly/react-icons/dist/dynamic/icons/users-icon";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";

import { api, call, ifMatch } from "../../api/client";
import { useSession } from "../../api/session";
import type { Column } from "../../widgets/DataTable";
import { Field } from "../../widgets/Field";
import { FormDialog } from "../../widgets/FormDialog";
import { ListPage } from "../../widgets/ListPage";
import { Moment } from "../../widgets/Moment";
import { ProblemAlert } from "../../widgets/ProblemAlert";
import { type AccessRole, ROLES, type User, usersQuery } from "./accessQueries";

const SHORTEST = 12;

function AddUser({ onClose }: { onClose: () => void }) {
    const { t } = useTranslation("access");
    const { t: common } = useTranslation();
    const client = useQueryClient();
    const [name, setName] = useState("");
    const [role, setRole] = useState<AccessRole>("viewer");
    const [password, setPassword] = useState("");
    const mutation = useMutation({
        mutationFn: () => call(api.POST("/api/v1/users", { body: { name, role, password, must_change_password: true } })),
        onSuccess: async () => {
            await client.invalidateQueries({ queryKey: ["users"] });
            onClose();
        },
    });
    return (
        <FormDialog title={t("addUser")} submit={t("addUser")} isDisabled={!name || password.length < SHORTEST} mutation={mutation} onSubmit={() => mutation.mutate()} onClose={onClose}>
            <Field id="user-name" label={t("column.name")} value={name} onChange={setName} isRequired />
            <Field id="user-role" label={t("column.role")} value={role} onChange={(value) => setRole(value as AccessRole)} options={ROLES.map((value) => ({ value, text: common(`role.${value}`) }))} hint={t(`roleHint.${role}`)} />
            <Field id="user-password" label={t("password")} type="password" autoComplete="new-password" value={password} onChange={setPassword} hint={t("passwordHint", { count: SHORTEST })} isRequired isWrong={password !== "" && password.length < SHORTEST} />
        </FormDialog>
    );
}

function useUserColumns(): Column<User>[] {
    const { t } = useTranslation("access");
    const { t: common } = useTranslation();
    return [
        { key: "name", label: t("column.name"), width: 25, sortBy: (u) => u.name, cell: (u) => <><strong>{u.name}</strong><div className="lw-subtle">{u.display_name}</div></> },
        { key: "role", label: t("column.role"), sortBy: (u) => ROLES.indexOf(u.role), cell: (u) => common(`role.${u.role}`) },
        { key: "state", label: t("column.state"), sortBy: (u) => String(u.disabled), cell: (u) => <Label color={u.disabled ? "grey" : "green"} isCompact>{u.disabled ? t("disabled") : t("enabled")}</Label> },
        { key: "signin", label: t("column.signin"), sortBy: (u) => u.oidc_issuer, cell: (u) => (u.oidc_issuer ? "OpenID" : t("password")) },
        { key: "last", label: t("column.lastLogin"), sortBy: (u) => u.last_login_at, cell: (u) => <Moment at={u.last_login_at} /> },
    ];
}

export function Users({ above }: { above: ReactNode }) {
    const { t } = useTranslation("access");
    const client = useQueryClient();
    const own = useSession()?.user.id;
    const query = useQuery(usersQuery);
    const [adding, setAdding] = useState(false);
    const [removing, setRemoving] = useState<User>();
    const onSuccess = async () => {
        await client.invalidateQueries({ queryKey: ["users"] });
        setRemoving(undefined);
    };
    const disable = useMutation({ mutationFn: (u: User) => call(api.PATCH("/api/v1/users/{user_id}", { params: { path: { user_id: u.id }, header: ifMatch(u) }, body: { disabled: !u.disabled } })), onSuccess });
    const remove = useMutation({ mutationFn: (u: User) => call(api.DELETE("/api/v1/users/{user_id}", { params: { path: { user_id: u.id }, header: ifMatch(u) } })), onSuccess });
    const actions = (u: User) => u.id !== own && (
        <Flex columnGap={{ default: "columnGapMd" }}>
            <Button variant="link" isInline onClick={() => disable.mutate(u)}>{u.disabled ? t("enable") : t("disable")}</Button>
            <Button variant="link" isInline isDanger onClick={() => setRemoving(u)}>{t("delete")}</Button>
        </Flex>
    );
    return (
        <>
            <ListPage<User> title={t("title")} text={t("usersText")} query={query} columns={useUserColumns()} rowId={(u) => u.id} rowName={(u) => u.name} words={(u) => `${u.name} ${u.display_name} ${u.role}`} sort="name" none={{ title: t("none"), text: t("usersText"), icon: UsersIcon }} headerActions={<Button id="add-user" onClick={() => setAdding(true)}>{t("addUser")}</Button>} rowActions={actions} above={<>{above}<ProblemAlert error={disable.error} /></>} />
            {adding && <AddUser onClose={() => setAdding(false)} />}
            {removing && <FormDialog title={t("deleteUser", { name: removing.name })} text={t("deleteUserText")} submit={t("delete")} isDanger mutation={remove} onSubmit={() => remove.mutate(removing)} onClose={() => setRemoving(undefined)} />}
        </>
    );
}
