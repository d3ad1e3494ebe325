// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from "vitest/config";

export default defineConfig({
    test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"], testTimeout: 60000, hookTimeout: 60000 },
});
