/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes between freeze.c and the helper process: fixed messages on a SOCK_SEQPACKET pair, one answer to each request.
 */
#ifndef MOBILITY_CAPTURE_FREEZE_HELPER_H
#define MOBILITY_CAPTURE_FREEZE_HELPER_H

#include <stdint.h>
#include <sys/types.h>

enum freeze_op {
    FREEZE_OP_ADD = 1, /* carries one descriptor of a mount point (SCM_RIGHTS), in the order of mounting */
    FREEZE_OP_BEGIN,   /* flush and freeze all that were added, within `value` microseconds from the first freeze on */
    FREEZE_OP_END,     /* thaw, close the descriptors, tell how long it took */
};

struct freeze_request {
    uint32_t op;
    uint32_t reserved;
    uint64_t value;
};

enum freeze_answer {
    FREEZE_DONE = 1,
    FREEZE_SLOW_FLUSH, /* nothing was frozen */
    FREEZE_SLOW,       /* frozen, and thawed again, because freezing took longer than the budget */
    FREEZE_FAILED,     /* sys_errno and `value` (which one) say why; nothing is frozen any more */
    FREEZE_GAVE_UP,    /* answer to END: thawed before that */
};

struct freeze_reply {
    uint32_t answer;
    uint32_t sys_errno;
    uint64_t value;
};

/* The life of the helper, in the forked child; fd is its end of the pair. Never returns. Uses no heap and no stdio, so it may
 * be forked from a process with threads. state_path is removed after each thaw; it may be NULL. */
_Noreturn void freeze_helper_main(int fd, pid_t parent, const char *state_path);

#endif
