// SPDX-License-Identifier: Apache-2.0
import { useEffect } from "react";

/** The title of the browser's tab. */
export function usePageTitle(title: string) {
    useEffect(() => {
        document.title = `${title} · Leeward`;
    }, [title]);
}
