/* SPDX-License-Identifier: Apache-2.0
 *
 * A segment file as a crash or a bad disk leaves it. What recovery calls the end can be reopened.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "transport/base/file.h"
#include "transport/log/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char folder[] = "/dev/shm/leeward-fuzz-XXXXXX"; /* in memory: nothing here is about durability */
    if (mkdtemp(folder) == NULL)
        abort();
    AUTO_CLOSE int dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int fd = openat(dirfd, "0000000000000001.seg", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file_write_all(fd, data, size, "input", NULL) < 0)
        abort();
    uint64_t end;
    bool sealed;
    struct segment_writer *w AUTO_OF(segment_writer) = NULL;
    if (segment_recover(dirfd, 1, NULL, NULL, &end, &sealed, NULL) == 0 && !sealed &&
        segment_reopen(dirfd, 1, end, &w, NULL) < 0)
        abort();
    (void)file_remove_tree(folder, NULL);
    return 0;
}
