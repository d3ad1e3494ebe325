/* SPDX-License-Identifier: Apache-2.0
 *
 * CMocka with the headers that it needs first, and a temporary folder for tests that write files.
 */
#ifndef TESTS_UNIT_BASE_UNIT_H
#define TESTS_UNIT_BASE_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "transport/base/err.h"
#include "transport/base/file.h"

/* Group or test set-up: *state is the path of a fresh folder, which unit_temp_done removes with all that is in it. */
static inline int unit_temp_new(void **state)
{
    const char *base = getenv("TMPDIR");
    char *path = malloc(4096);

    if (!path)
        return -1;
    snprintf(path, 4096, "%s/leeward-unit.XXXXXX", base && *base ? base : "/tmp");
    *state = mkdtemp(path);
    return *state ? 0 : -1;
}

static inline int unit_temp_done(void **state)
{
    int rc = file_remove_tree(*state, NULL);

    free(*state);
    return rc;
}

#endif
