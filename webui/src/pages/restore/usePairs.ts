// SPDX-License-Identifier: Apache-2.0
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { disksQuery, type Machine } from "../../api/queries";
import { guess, numbered, type Pairs } from "./pairing";

/** Pairs as somebody chose them, else as they are guessed. `numbers`: of the disks that there are to be written, where that is known; else those that are protected. */
export function usePairs(machine: string, receiver: Machine | undefined, numbers?: readonly number[]): [Pairs, (pairs: Pairs) => void] {
    const [chosen, setChosen] = useState<{ of: string; pairs: Pairs }>();
    const of = `${machine} ${receiver?.id ?? ""}`;
    const ours = numbered(useQuery({ ...disksQuery(machine), enabled: machine !== "" }).data ?? []).map((disk) => (numbers ? { ...disk, protected: numbers.includes(disk.number) } : disk));
    const theirs = useQuery({ ...disksQuery(receiver?.id ?? ""), enabled: receiver !== undefined }).data ?? [];
    const pairs = chosen?.of === of ? chosen.pairs : guess(ours, theirs, receiver?.rescue ?? false);
    return [pairs, (next) => setChosen({ of, pairs: next })];
}
