/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target over the files of a corpus folder, over every prefix of each (in steps), and over each with single
 * bits flipped, without a fuzzer. What a fuzzer once found stays found.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX (1u << 20)
#define VARIANTS 400u /* per kind of change and file, whatever the file's size */

/* A copy of exactly n bytes, so that AddressSanitizer sees a read behind them. */
static void run(const uint8_t *data, size_t n, size_t flip_bit)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, data, n);
    if (flip_bit < n * 8)
        copy[flip_bit / 8] ^= (uint8_t)(1u << flip_bit % 8);
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void run_variants(const uint8_t *data, size_t n)
{
    run(data, n, SIZE_MAX);
    for (size_t cut = 0; cut < n; cut += 1 + n / VARIANTS)
        run(data, cut, SIZE_MAX);
    for (size_t bit = 0; bit < n * 8; bit += 1 + n * 8 / VARIANTS)
        run(data, n, bit);
}

static int run_file(const char *folder, const char *name)
{
    static uint8_t data[INPUT_MAX];
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, data, sizeof(data));
    (void)close(fd);
    if (n < 0)
        return -1;
    run_variants(data, (size_t)n);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    struct dirent *entry;
    unsigned files = 0;
    if (folder == NULL) {
        (void)fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        if (run_file(argv[1], entry->d_name) < 0)
            return 1;
        files++;
    }
    (void)closedir(folder);
    (void)printf("%u files replayed\n", files);
    return files > 0 ? 0 : 1;
}
