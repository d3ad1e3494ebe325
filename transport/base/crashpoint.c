/* SPDX-License-Identifier: Apache-2.0
 *
 * See crashpoint.h.
 */
#include "transport/base/crashpoint.h"

#include <stddef.h>

static void (*watcher)(void *arg, const char *name);
static void *watcher_arg;

void crashpoint_watch(void (*fn)(void *arg, const char *name), void *arg)
{
    watcher_arg = arg;
    watcher = fn;
}

void crashpoint_pass(const char *name)
{
    if (watcher != NULL)
        watcher(watcher_arg, name);
}
