/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine of the vault's model (vaultmodel.h) that is uploaded to a bucket, which is a directory here, and rebuilt from it.
 */
#ifndef TESTS_UNIT_VAULT_BUCKETWORLD_H
#define TESTS_UNIT_VAULT_BUCKETWORLD_H

#include "tests/unit/vault/vaultmodel.h"
#include "transport/vault/object/object.h"
#include "transport/vault/upload.h"

#define EPOCH_AFTER_REBUILD (1ULL << 40) /* far above what a rebuild skips */

struct world {
    struct model m;
    char url[160];
    struct object_store *objects;
    struct upload *upload;
    struct upload_result result;
    char id[IDENT_TEXT_SIZE];
    unsigned rebuilds;
};

/* Fails the test with the error's text. */
void world_ok(int result, const struct err *err);
void world_init(struct world *w, uint64_t seed);
void world_done(struct world *w);
/* Commits that many change sets, each a point. */
void world_change(struct world *w, unsigned commits);

/* Drops `drop` points of each `of` (the newest stays) and rewrites what is garbage then. How many segments. */
unsigned world_thin_and_compact(struct world *w, unsigned drop, unsigned of);

/* As after a restart of the vault. turn_bytes: as upload_new. */
void world_upload_anew(struct world *w, uint64_t turn_bytes);
void world_upload_again(struct world *w);
int world_turn(struct world *w, struct err *err);
/* Turns until the bucket has all. */
void world_bring(struct world *w);

/* A new folder for a vault, and its key in it. */
void world_data_folder(struct world *w, char out[160]);
void world_put_key(const char *data, const struct vault_key *key);
/* Rebuilds into a new folder; machine_dir is the machine's there. */
void world_rebuild(struct world *w, char data[160], char machine_dir[160]);
/* Compares every point up to `last` with a rebuilt vault's, and that it has no other. */
void world_check_rebuilt(struct world *w, uint64_t last);
/* The same of a machine of that generation. */
void world_check_rebuilt_at(struct world *w, uint64_t last, uint64_t generation);
void world_rebuild_fails(struct world *w, enum err_code code, const char *with);

/* The bucket holds what its marks name and nothing else. */
void world_check_tidy(struct world *w);
/* The first or the last object in a folder of the machine's, as a file's path; free it. */
char *world_path(struct world *w, const char *folder, bool last);
/* Flips a bit of the byte there; < 0: from the end. */
void world_flip(const char *path, long at);

#endif
