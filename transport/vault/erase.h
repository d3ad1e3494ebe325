/* SPDX-License-Identifier: Apache-2.0
 *
 * Erasing a machine: its data is nothing without its data key, so that is destroyed, and the files are removed afterwards. The folder
 * is first renamed to `.erased-<machine id>`, durably: from then on the machine is not there any more, and whatever interrupts the
 * rest, the next start goes on with it.
 */
#ifndef TRANSPORT_VAULT_ERASE_H
#define TRANSPORT_VAULT_ERASE_H

#include <stdbool.h>
#include <stddef.h>

#include "transport/base/err.h"
#include "transport/base/ident.h"

/* With no store of the machine open. The key is gone when it returns; the files are not yet. ERR_NOT_FOUND: no such folder. */
int erase_key(const char *data_dir, const struct ident *machine, struct err *err);
/* Destroys the keys of what was erased and removes its files. keep: an empty folder stays for each, for those who have copies to remove. */
int erase_sweep(const char *data_dir, bool keep, struct err *err);
/* The machines whose folders erase_sweep kept (free the list). */
int erase_kept(const char *data_dir, struct ident **ret_machines, size_t *ret_count, struct err *err);
/* Is it one of them? */
bool erase_is_kept(const char *data_dir, const struct ident *machine);
/* All copies are gone. */
int erase_finish(const char *data_dir, const struct ident *machine, struct err *err);

#endif
