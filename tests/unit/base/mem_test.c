/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory in pages: where it lies, that it is what was asked for, and that it goes back.
 */
#include "tests/unit/base/unit.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/mem.h"

#define HUGE ((size_t)2 << 20)

static size_t mapped_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    (void)fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

static void test_pages_begin_at_a_huge_page_and_are_zero(void **state)
{
    const size_t sizes[] = {1, 4096, HUGE - 1, HUGE, HUGE + 1, 3 * HUGE + 4096};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint8_t *pages = mem_pages_new(sizes[i]);
        assert_non_null(pages);
        assert_int_equal((uintptr_t)pages % HUGE, 0);
        for (size_t at = 0; at < sizes[i]; at += 4096)
            assert_int_equal(pages[at], 0);
        memset(pages, 0xa5, sizes[i]);
        mem_pages_free(pages, sizes[i]);
    }
    mem_pages_free(NULL, 4096);
}

/* What the kernel was asked for, of the mapping that begins there. */
static bool may_be_huge(const void *pages)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512], begin[32];
    bool is_ours = false, is_huge = false;

    assert_non_null(f);
    snprintf(begin, sizeof(begin), "%lx-", (unsigned long)(uintptr_t)pages);
    while (fgets(line, sizeof(line), f)) {
        if (strncmp(line, begin, strlen(begin)) == 0)
            is_ours = true;
        else if (is_ours && strncmp(line, "VmFlags:", 8) == 0) {
            is_huge = strstr(line, " hg ") != NULL;
            break;
        }
    }
    (void)fclose(f);
    return is_huge;
}

static void test_pages_may_be_huge(void **state)
{
    void *pages = mem_pages_new(HUGE);

    (void)state;
    assert_non_null(pages);
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) == 0)
        assert_true(may_be_huge(pages));
    mem_pages_free(pages, HUGE);
}

static void test_pages_take_no_more_room_than_they_need_and_give_it_back(void **state)
{
    size_t before = mapped_kib();
    void *pages[8];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        assert_non_null(pages[i] = mem_pages_new(HUGE + 1));
    assert_true(mapped_kib() - before <= ARRAY_LEN(pages) * 2 * HUGE / 1024 + 256); /* 256: what the C library takes itself */
    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        mem_pages_free(pages[i], HUGE + 1);
    assert_true(mapped_kib() <= before + 256);
}

static void test_pages_that_cannot_be_had(void **state)
{
    (void)state;
    assert_null(mem_pages_new(0));
    assert_null(mem_pages_new(SIZE_MAX));
    assert_null(mem_pages_new((size_t)1 << 62));
    mem_fail_at(1);
    assert_null(mem_pages_new(4096));
    mem_fail_at(0);
}

static void test_a_child_is_without_them(void **state)
{
    volatile uint8_t *pages = mem_pages_new(4096);
    int status = 0;
    pid_t pid;

    (void)state;
    assert_non_null(pages);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) /* EFAULT or ENOMEM: nothing is mapped there */
        _exit(madvise((void *)(uintptr_t)pages, 4096, MADV_NORMAL) < 0 ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    mem_pages_free((void *)(uintptr_t)pages, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_begin_at_a_huge_page_and_are_zero),
        cmocka_unit_test(test_pages_may_be_huge),
        cmocka_unit_test(test_pages_take_no_more_room_than_they_need_and_give_it_back),
        cmocka_unit_test(test_pages_that_cannot_be_had),
        cmocka_unit_test(test_a_child_is_without_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
