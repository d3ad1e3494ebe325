/* SPDX-License-Identifier: Apache-2.0
 *
 * Ownership by scope. AUTO_FREE, AUTO_CLOSE and the AUTO_X macro that stands beside each `x_free` release what a
 * local variable holds when it leaves scope; TAKE_PTR and TAKE_FD hand it on instead.
 * All allocation goes through mem_alloc/mem_resize, so that a test can make the n-th one fail.
 */
#ifndef TRANSPORT_BASE_MEM_H
#define TRANSPORT_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* Zeroed memory or NULL. count * size is checked for overflow. */
void *mem_alloc(size_t count, size_t size);
/* As realloc for count * size with overflow check; NULL leaves the old block as it was. New bytes are not zeroed. */
void *mem_resize(void *old, size_t count, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* For daemons that move buffers of megabytes: the allocator keeps up to keep_bytes of what was freed instead of giving it back
 * to the kernel and faulting it in again, page by page, for the next buffer. Once, before threads are started. */
void mem_keep_freed(size_t keep_bytes);
/* At least n bytes of zeros for content of disks, at the border of a huge page, where the kernel has such pages in them: what is read past the page cache
 * costs it less then, for it pins memory page by page. A child that this process forks is without them. NULL: no memory. */
void *mem_pages_new(size_t n);
void mem_pages_free(void *pages, size_t n); /* n as it was; NULL is allowed */
/* A child that this process forks is without this mapping (of whole pages): it would share what it does not need, and keep it alive, or have it locked in
 * memory with the rest. */
void mem_keep_from_children(void *mapping, size_t n);
/* Tests only: the n-th allocation from now on (1 = next) returns NULL, once; 0 switches it off. */
void mem_fail_at(long n);

#define mem_new(type) ((type *)mem_alloc(1, sizeof(type)))

static inline void mem_free_indirect(void *p)
{
    free(*(void **)p);
}

static inline void fd_close_indirect(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

#define AUTO_FREE __attribute__((cleanup(mem_free_indirect)))
#define AUTO_CLOSE __attribute__((cleanup(fd_close_indirect)))

#define TAKE_PTR(p)                                                                                                    \
    ({                                                                                                                 \
        __typeof__(p) taken_ = (p);                                                                                    \
        (p) = NULL;                                                                                                    \
        taken_;                                                                                                        \
    })
#define TAKE_FD(fd)                                                                                                    \
    ({                                                                                                                 \
        int taken_ = (fd);                                                                                             \
        (fd) = -1;                                                                                                     \
        taken_;                                                                                                        \
    })

/* DEFINE_AUTO(segment, segment_close) makes AUTO_OF(segment): struct segment *s AUTO_OF(segment) = NULL; */
#define DEFINE_AUTO(name, fn)                                                                                          \
    static inline void name##_auto_indirect(struct name **p)                                                           \
    {                                                                                                                  \
        fn(*p);                                                                                                        \
    }
#define AUTO_OF(name) __attribute__((cleanup(name##_auto_indirect)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
