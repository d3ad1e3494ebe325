// SPDX-License-Identifier: Apache-2.0
//
// Another policy or site for a machine of many, on the version that was shown.
import type { Outcome } from "../../api/each";
import { api, call, ifMatch } from "../../api/client";
import { asProblem } from "../../api/problem";
import type { Machine } from "../../api/queries";

/** What is not named stays as it is. */
export interface Wish {
    policy_id?: string;
    site_id?: string | null;
}

export const AS_IT_IS = "";
export const NO_SITE = "none";

export function wishOf(policy: string, site: string): Wish {
    return { ...(policy !== AS_IT_IS && { policy_id: policy }), ...(site !== AS_IT_IS && { site_id: site === NO_SITE ? null : site }) };
}

export const isEmpty = (wish: Wish) => Object.keys(wish).length === 0;

export function hasAlready(machine: Machine, wish: Wish): boolean {
    return (wish.policy_id === undefined || machine.policy_id === wish.policy_id) && (wish.site_id === undefined || machine.site_id === wish.site_id);
}

const path = (machine: Machine) => ({ path: { machine_id: machine.id } });
const change = (machine: Machine, wish: Wish) => call(api.PATCH("/api/v1/machines/{machine_id}", { params: { ...path(machine), header: ifMatch(machine) }, body: wish }));

/**
 * A machine's version grows with much that nobody would call a change of policy or site (a protection that begins, a failover): then it is read again, and
 * changed if these two are still those that were shown.
 */
export async function give(shown: Machine, wish: Wish): Promise<Outcome> {
    if (hasAlready(shown, wish)) return "already";
    try {
        await change(shown, wish);
    } catch (error) {
        if (asProblem(error).status !== 412) throw error;
        const now = await call(api.GET("/api/v1/machines/{machine_id}", { params: path(shown) }));
        if (hasAlready(now, wish)) return "already";
        if (now.policy_id !== shown.policy_id || now.site_id !== shown.site_id) throw error;
        await change(now, wish);
    }
    return "done";
}
