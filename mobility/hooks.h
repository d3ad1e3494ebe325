/* SPDX-License-Identifier: Apache-2.0
 *
 * Application hooks, in the convention of qemu-guest-agent: every executable file of a folder is run with the argument
 * "freeze" in the order of their names, and with "thaw" in the reverse order. Each has a time limit, at which it is killed.
 */
#ifndef MOBILITY_HOOKS_H
#define MOBILITY_HOOKS_H

#include <stdint.h>

#include "transport/base/err.h"

#define HOOKS_MAX 64u

struct hooks;

/* Lists the folder (absence: no hooks). Files that are not executable, or that others than root may write, are left out.
 * dir must live as long as the result. */
int hooks_load(const char *dir, uint64_t limit_usec, struct hooks **ret_hooks, struct err *err);
void hooks_free(struct hooks *h); /* NULL allowed */
unsigned hooks_count(const struct hooks *h);
/* Runs "freeze"; on failure those that ran are thawed again and -1 is returned with what the hook had to say. Blocks. */
int hooks_freeze(struct hooks *h, struct err *err);
/* Runs "thaw" for all whose freeze was run; goes on over failures and returns the first. */
int hooks_thaw(struct hooks *h, struct err *err);

#endif
