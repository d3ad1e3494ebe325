// SPDX-License-Identifier: Apache-2.0
export function Logo() {
    return (
        <span className="lw-logo">
            <svg viewBox="0 0 32 32" aria-hidden="true" width="32" height="32">
                <rect width="32" height="32" rx="7" fill="#0a3d62" />
                <path d="M9 22V6h4v12.4h10V22z" fill="#fff" />
                <path d="M16 14.5c3-2.6 6-2.6 9 0v-3.4c-3-2.6-6-2.6-9 0z" fill="#38c6b4" />
            </svg>
            <span className="lw-logo-name">Leeward</span>
        </span>
    );
}
