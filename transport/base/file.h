/* SPDX-License-Identifier: Apache-2.0
 *
 * Files as crash-safe building blocks: whole reads and writes, and replacing a small file so that after a crash either
 * the old or the new content is there.
 */
#ifndef TRANSPORT_BASE_FILE_H
#define TRANSPORT_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/base/buf.h"
#include "transport/base/err.h"

/* Reads exactly n bytes at offset; a short file is ERR_CORRUPT. `what` names the file in the error. */
int file_pread_all(int fd, void *data, size_t n, uint64_t offset, const char *what, struct err *err);
int file_pwrite_all(int fd, const void *data, size_t n, uint64_t offset, const char *what, struct err *err);
int file_write_all(int fd, const void *data, size_t n, const char *what, struct err *err);
/* Appends the whole file to b; ERR_TOO_LARGE above the buffer's maximum. */
int file_read(const char *path, struct buf *b, struct err *err);
/* Writes path.tmp, fsyncs it, renames it over path and fsyncs the folder. */
int file_replace(const char *path, const void *data, size_t n, mode_t mode, struct err *err);
/* The same for a file that names others. *ret_renamed: the new content has the name. A failure behind that (the folder could not be synced) leaves
 * open which of the two a power failure would bring back: what either of them names must stay. */
int file_replace_told(const char *path, const void *data, size_t n, mode_t mode, bool *ret_renamed, struct err *err);
int file_sync_dir(const char *dir, struct err *err);
/* mkdir -p; a folder that exists is success. What was made is durable when it returns. */
int file_make_dirs(const char *path, mode_t mode, struct err *err);
/* Removes a file or a folder with all that is in it, never crossing a mount or following a link; absence is success. */
int file_remove_tree(const char *path, struct err *err);

#endif
