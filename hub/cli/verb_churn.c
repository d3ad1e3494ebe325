/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward machine churn
 */
#include "hub/cli/verbs.h"

#include "transport/base/mem.h"

static const struct column churn_columns[] = {
    {"MINUTE", "minute", COLUMN_TIME, false},
    {"DISK", "disk", COLUMN_NUMBER, false},
    {"CHANGED", "changed_bytes", COLUMN_BYTES, false},
    {"INCOMPRESSIBLE", "incompressible_bytes", COLUMN_BYTES, false},
    {"ENTROPY", "entropy_bits", COLUMN_NUMBER, false},
    {"TURNED", "turned_bytes", COLUMN_BYTES, false},
};

int verb_machine_churn(struct command_line *line, struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/churn?sort=-minute", line->arguments[0]);
    uint64_t most = 60;

    if (command_option_number(line, "limit", 1, 1000000, &most, err) < 0)
        return -1;
    return verb_print_list(line, path, churn_columns, ARRAY_LEN(churn_columns), (size_t)most, err);
}
