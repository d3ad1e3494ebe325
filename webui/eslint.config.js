// SPDX-License-Identifier: Apache-2.0
import jsxA11y from "eslint-plugin-jsx-a11y";
import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

export default tseslint.config(
    { ignores: ["node_modules", "dist", "src/api/schema.d.ts"] },
    {
        files: ["src/**/*.{ts,tsx}", "*.ts"],
        extends: [...tseslint.configs.strictTypeChecked, jsxA11y.flatConfigs.recommended, reactHooks.configs.flat["recommended-latest"]],
        languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
        rules: {
            "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
            "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
            // The router redirects by throwing what is no Error; that is its documented way.
            "@typescript-eslint/only-throw-error": "off",
            // TanStack Virtual hands out functions that change under one name; the compiler's rule only says that it skips those.
            "react-hooks/incompatible-library": "off",
            // Text that comes from the network may never become markup.
            "no-restricted-syntax": [
                "error",
                { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: "Text never becomes markup here." },
                { selector: "AssignmentExpression[left.property.name=/^(inner|outer)HTML$/]", message: "Text never becomes markup here." },
            ],
        },
    },
);
