// SPDX-License-Identifier: Apache-2.0
//
// A mapping as it is entered, from one of the hub's and back to what is sent. Nothing that the hub has is lost on the way, whoever entered it.
import type { components } from "../../api/schema";

export type MappingNic = components["schemas"]["MappingNic"];
export type MappingOutcome = components["schemas"]["MappingOutcome"];
export type MappingPatch = components["schemas"]["MappingPatch"];
type FixupNetwork = components["schemas"]["FixupNetwork"];

/** What both of the hub's mappings, of a machine and of a site, have. */
export interface Mapping {
    cpus: number | null;
    memory_bytes: number | null;
    nics: MappingNic[];
}

const MIB = 1 << 20;
export const CARDS_MAX = 16;

/** A static address is one machine's: a site's mapping has none. */
export const METHODS = ["keep", "dhcp", "static", "translate"] as const;
export const SITE_METHODS = ["keep", "dhcp", "translate"] as const;
export type Method = (typeof METHODS)[number];

export interface AddressEntry {
    /** same: of tests, as of failovers. */
    method: Method | "same";
    address: string;
    gateway: string;
    /** Separated by commas. */
    dns: string;
    /** FROM=TO, separated by commas. */
    map: string;
}

export interface CardEntry {
    /** For as long as the form is open; a card has no name of its own. */
    key: number;
    source: string;
    network: string;
    testNetwork: string;
    address: AddressEntry;
    testAddress: AddressEntry;
}

export interface MappingEntry {
    cpus: string;
    memoryMib: string;
    cards: CardEntry[];
}

const addressEntry = (ip: FixupNetwork | undefined, without: AddressEntry["method"]): AddressEntry => ({
    method: (ip?.method as Method | undefined) ?? without,
    address: ip?.address ?? "",
    gateway: ip?.gateway ?? "",
    dns: (ip?.dns ?? []).join(", "),
    map: (ip?.map ?? []).map(({ from, to }) => `${from}=${to}`).join(", "),
});

let nextKey = 1;

function cardEntry(nic: MappingNic): CardEntry {
    return { key: nextKey++, source: nic.source, network: nic.network ?? "", testNetwork: nic.test_network ?? "", address: addressEntry(nic.ip, "keep"), testAddress: addressEntry(nic.test_ip, "same") };
}

export const newCard = (source: string): CardEntry => cardEntry({ source });

export const entryOf = (mapping: Mapping): MappingEntry => ({
    cpus: mapping.cpus === null ? "" : String(mapping.cpus),
    memoryMib: mapping.memory_bytes === null ? "" : String(mapping.memory_bytes / MIB),
    cards: mapping.nics.map(cardEntry),
});

const list = (text: string) => text.split(",").map((one) => one.trim()).filter(Boolean);

/** undefined where one of the pairs is none. */
function pairs(text: string): { from: string; to: string }[] | undefined {
    const found = list(text).map((one) => /^([^=\s]+)\s*=\s*([^=\s]+)$/.exec(one));
    return found.length > 0 && found.every((one) => one !== null) ? found.map((one) => ({ from: one[1] as string, to: one[2] as string })) : undefined;
}

function networkOf(entry: AddressEntry, without: AddressEntry["method"]): FixupNetwork | undefined {
    const { method } = entry;
    if (method === without || method === "same") return undefined;
    if (method === "static") {
        const dns = list(entry.dns);
        return { method, address: entry.address.trim(), ...(entry.gateway.trim() && { gateway: entry.gateway.trim() }), ...(dns.length > 0 && { dns }) };
    }
    return method === "translate" ? { method, map: pairs(entry.map) ?? [] } : { method };
}

function nicOf(card: CardEntry): MappingNic {
    const ip = networkOf(card.address, "keep");
    const testIp = networkOf(card.testAddress, "same");
    const network = card.network.trim();
    const testNetwork = card.testNetwork.trim();
    return { source: card.source.trim(), ...(network && { network }), ...(testNetwork && { test_network: testNetwork }), ...(ip && { ip }), ...(testIp && { test_ip: testIp }) };
}

/** All members: what is empty is not mapped any more. */
export const patchOf = (entry: MappingEntry): MappingPatch => ({
    cpus: entry.cpus === "" ? null : Number(entry.cpus),
    memory_bytes: entry.memoryMib === "" ? null : Math.round(Number(entry.memoryMib) * MIB),
    nics: entry.cards.length === 0 ? null : entry.cards.map(nicOf),
});

const isCount = (text: string, least: number, most: number) => text === "" || (Number(text) >= least && Number(text) <= most);
export const isCpus = (text: string) => isCount(text, 1, 512) && (text === "" || Number.isInteger(Number(text)));
export const isMemory = (text: string) => isCount(text, 64, Number.MAX_SAFE_INTEGER / MIB);
export const isMap = (text: string) => pairs(text) !== undefined;
/** A test is to be alone in its network. */
export const isAlone = (card: CardEntry) => card.network.trim() === "" || card.network.trim() !== card.testNetwork.trim();

const isAddress = ({ method, address, map }: AddressEntry) => (method === "static" ? address.trim() !== "" : method !== "translate" || isMap(map));

/** What is missing cannot be sent; whether the rest is right is the hub's to say. */
export const isEntered = (entry: MappingEntry) =>
    isCpus(entry.cpus) && isMemory(entry.memoryMib) && entry.cards.every((card) => card.source.trim() !== "" && isAlone(card) && isAddress(card.address) && isAddress(card.testAddress));
