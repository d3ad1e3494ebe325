// SPDX-License-Identifier: Apache-2.0
//
// Which machine a failover is about.
import type { Machine } from "../../api/queries";

const REPLICATES: readonly Machine["state"][] = ["initial_replication", "protected", "resynchronizing"];

/** A replica of it can be asked for: it replicates and has a point. Which kinds there are then is the hub's to say. */
export const mayFailOver = (machine: Machine) => REPLICATES.includes(machine.state) && machine.last_point_sequence !== null;

const FAILED_OVER: readonly Machine["state"][] = ["failed_over", "committed", "reverse_replicating", "reverse_protected"];

/** A replica is the machine, or is becoming it: where the way back begins. */
export const hasFailedOver = (machine: Machine) => FAILED_OVER.includes(machine.state);

/** The one that was chosen and never another one in its place; the first one only while nobody has chosen. */
export const subjectOf = (machines: readonly Machine[], chosen: string): Machine | undefined => (chosen ? machines.find((one) => one.id === chosen) : machines[0]);
