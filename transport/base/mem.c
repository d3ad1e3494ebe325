/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation with overflow checks and one switch for tests: the n-th allocation from now on fails once. The
 * counter is atomic because workers allocate too; when it is off it costs one relaxed load.
 */
#include "transport/base/mem.h"

#include <limits.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static atomic_long fail_at;

/* No object is larger than PTRDIFF_MAX; what asks for more has computed its size wrongly. */
static bool size_is_wrong(size_t count, size_t size, size_t *ret_total)
{
    return __builtin_mul_overflow(count, size, ret_total) || *ret_total > PTRDIFF_MAX;
}

static bool must_fail(void)
{
    if (atomic_load_explicit(&fail_at, memory_order_relaxed) <= 0)
        return false;
    return atomic_fetch_sub(&fail_at, 1) == 1;
}

void mem_fail_at(long n)
{
    atomic_store(&fail_at, n);
}

void *mem_alloc(size_t count, size_t size)
{
    size_t total;

    if (size_is_wrong(count, size, &total) || must_fail())
        return NULL;
    return calloc(total ? total : 1, 1);
}

void *mem_resize(void *old, size_t count, size_t size)
{
    size_t total;

    if (size_is_wrong(count, size, &total) || must_fail())
        return NULL;
    /* realloc(p, 0) may free p and return NULL, which a caller would take for failure and free again. */
    return realloc(old, total ? total : 1);
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, SIZE_MAX);
}

char *mem_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = mem_alloc(len + 1, 1);

    if (copy)
        memcpy(copy, s, len);
    return copy;
}

char *mem_printf(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len < 0)
        return NULL;
    char *text = mem_alloc((size_t)len + 1, 1);
    if (!text)
        return NULL;
    va_start(ap, fmt);
    (void)vsnprintf(text, (size_t)len + 1, fmt, ap);
    va_end(ap);
    return text;
}

void mem_keep_from_children(void *mapping, size_t n)
{
    (void)madvise(mapping, n, MADV_DONTFORK);
}

/* A mapping begins anywhere; what lies before the border and behind the end goes back. */
static uint8_t *map_aligned(size_t n)
{
    uint8_t *all = mmap(NULL, n + HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (all == MAP_FAILED)
        return NULL;
    before = HUGE_PAGE_BYTES - (uintptr_t)all % HUGE_PAGE_BYTES;
    (void)munmap(all, before);
    if (before < HUGE_PAGE_BYTES)
        (void)munmap(all + before + n, HUGE_PAGE_BYTES - before);
    return all + before;
}

static size_t whole_pages(size_t n)
{
    return n + (HUGE_PAGE_BYTES - n % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
}

void *mem_pages_new(size_t n)
{
    uint8_t *pages;

    if (n == 0 || n > PTRDIFF_MAX - 2 * HUGE_PAGE_BYTES || must_fail())
        return NULL;
    n = whole_pages(n);
    pages = map_aligned(n);
    if (!pages)
        return NULL;
    (void)madvise(pages, n, MADV_HUGEPAGE); /* a kernel without them has pages, too */
    mem_keep_from_children(pages, n);
    return pages;
}

void mem_pages_free(void *pages, size_t n)
{
    if (pages)
        (void)munmap(pages, whole_pages(n));
}

void mem_keep_freed(size_t keep_bytes)
{
    /* 32 MiB is the largest threshold that glibc takes. Setting one of the two switches off the adjustment of both. */
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, (int)(keep_bytes < INT_MAX ? keep_bytes : INT_MAX));
}
