// SPDX-License-Identifier: Apache-2.0
//
// A time: how long ago for the eye, exactly for the pointer and for machines.
import { useFormat } from "../i18n/format";

export function Moment({ at }: { at: string | null | undefined }) {
    const { ago, moment } = useFormat();
    if (!at) return <span className="lw-subtle">–</span>;
    return <time dateTime={at} title={moment(at)}>{ago(at)}</time>;
}
