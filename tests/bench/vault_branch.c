/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes a branch over a point of a store that vault_history made, as the vault does before it starts nbdkit on it:
 *     vault_branch FOLDER SEQUENCE
 * Its folder is FOLDER/branch-SEQUENCE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/bytes.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"
#include "transport/vault/branch.h"
#include "transport/vault/view.h"

static int load_keys(const char *folder, struct keyring *keys, struct err *err)
{
    struct buf hex AUTO_BUF = BUF_INIT(1024);
    char *path AUTO_FREE = mem_printf("%s/key", folder);
    if (path == NULL || file_read(path, &hex, err) < 0)
        return -1;
    char *text AUTO_FREE = mem_strndup((const char *)hex.data, hex.len);
    return text == NULL ? err_set(err, ERR_NOMEM, "no memory for a key") : keyring_from_text(text, keys, err);
}

static int make_branch(const char *folder, uint64_t sequence, struct err *err)
{
    struct view *v AUTO_OF(view) = NULL;
    struct keyring keys;
    char *machine AUTO_FREE = mem_printf("%s/machine", folder);
    char *dir AUTO_FREE = mem_printf("%s/branch-%llu", folder, (unsigned long long)sequence);
    if (machine == NULL || dir == NULL || load_keys(folder, &keys, err) < 0 ||
        view_open(machine, sequence, &keys, 1, &v, err) < 0)
        return -1;
    struct branch_info info = {.machine = view_mark(v)->machine, .base_sequence = sequence};
    put_le64(info.id.bytes, sequence);
    return branch_base_check(view_mark(v), &info.base_check, err) < 0 ? -1 : branch_create(dir, &info, err);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    if (argc != 3) {
        (void)fprintf(stderr, "usage: vault_branch FOLDER SEQUENCE\n");
        return 2;
    }
    if (make_branch(argv[1], strtoull(argv[2], NULL, 10), &err) == 0)
        return 0;
    (void)fprintf(stderr, "vault_branch: %s\n", err.text);
    return 1;
}
