// SPDX-License-Identifier: Apache-2.0
//
// The network of a replica as it is entered: whatever is said elsewhere, one that is named, or none at all.
export const WAYS = ["said", "named", "none"] as const;

export interface NetworkEntry {
    /** said: by the mappings, and by a plan where there is one. */
    way: (typeof WAYS)[number];
    name: string;
}

export const AS_SAID: NetworkEntry = { way: "said", name: "" };

/** What is sent: without the member others say it, and an empty text is no network at all. */
export function networkOf({ way, name }: NetworkEntry): { network?: string } {
    return way === "said" ? {} : { network: way === "named" ? name.trim() : "" };
}

/** Who wants one by name has to say it: an empty name would be none. */
export const isNamed = ({ way, name }: NetworkEntry) => way !== "named" || name.trim() !== "";
