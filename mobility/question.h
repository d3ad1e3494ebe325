/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to disks and file systems that may never answer: a device whose path is lost, a file system whose server is gone. Each
 * is asked on a thread of its own, since nothing ends a thread that waits in the kernel; who asks waits for a while only. A question that
 * was not answered stays with its thread until it is, and whoever it was asked of is asked nothing else until then: a disk that hangs
 * costs one thread, however often it is looked at.
 *
 * What does not end with this: a process ends when its last thread has left the kernel.
 */
#ifndef MOBILITY_QUESTION_H
#define MOBILITY_QUESTION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define QUESTION_WHOM_MAX 128u

/* The first member of your own structure, which comes from mem_new and has everything in it that `ask` reads and writes. */
struct question {
    void (*ask)(struct question *q); /* on the thread */
    /* The module's own. */
    struct question *next;
    char whom[QUESTION_WHOM_MAX];
    bool is_answered, is_abandoned;
    pthread_cond_t answered;
};

/* Asks `whom` (a device or mount point: what is alike is the same), and waits for at most that long. True: answered; the question is the
 * caller's, to read and to free. False: it was not, or an earlier question to the same is still open; the question is gone. Any thread. */
bool question_put(struct question *q, const char *whom, uint64_t limit_usec);

#endif
