/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-object: the object storage as a vault would see it, by hand; for trying a URL and its keys, and for the system tests.
 * Secrets come from the environment alone, so that no list of processes shows them. Exit status: 0 done, 1 failed, 2 wrong use,
 * 3 the object is not there (get, size) or there already (put-new, put-file; the latter sends large files in pieces).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/base/file.h"
#include "transport/vault/object/object.h"

enum { EXIT_USE = 2, EXIT_ABSENT = 3 };

struct command {
    const char *word;
    int arguments_min, arguments_max;
    int (*run)(struct object_store *s, char **arguments, int count, struct err *err);
};

static int number(const char *text, uint64_t *ret_number, struct err *err)
{
    char *end;

    *ret_number = strtoull(text, &end, 10);
    return *text < '0' || *text > '9' || *end ? err_set(err, ERR_INVALID, "\"%.40s\" is not a number", text) : 0;
}

static int run_probe(struct object_store *s, char **arguments, int count, struct err *err)
{
    static const char *const words[] = {"put-if-absent", "condition-honoured", "list-pages", "ranged-get", "delete"};

    (void)arguments, (void)count;
    if (object_probe(s, err) < 0)
        return -1;
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        printf("%s %s\n", words[i], object_features(s) & 1u << i ? "yes" : "no");
    return 1;
}

static int put_file(struct object_store *s, char **arguments, bool is_new, struct err *err)
{
    AUTO_BUF struct buf data = BUF_INIT(OBJECT_BYTES_MAX);

    if (file_read(arguments[1], &data, err) < 0)
        return -1;
    if (is_new)
        return object_put_new(s, arguments[0], data.data, data.len, err);
    return object_put(s, arguments[0], data.data, data.len, err) < 0 ? -1 : 1;
}

static int run_put(struct object_store *s, char **arguments, int count, struct err *err)
{
    (void)count;
    return put_file(s, arguments, false, err);
}

static int run_put_new(struct object_store *s, char **arguments, int count, struct err *err)
{
    (void)count;
    return put_file(s, arguments, true, err);
}

static int run_put_file(struct object_store *s, char **arguments, int count, struct err *err)
{
    AUTO_CLOSE int fd = open(arguments[1], O_RDONLY | O_CLOEXEC);
    struct stat st;

    (void)count;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "opening %s", arguments[1]);
    return object_put_file(s, arguments[0], fd, 0, (uint64_t)st.st_size, err);
}

static int run_get(struct object_store *s, char **arguments, int count, struct err *err)
{
    AUTO_BUF struct buf data = BUF_INIT(OBJECT_BYTES_MAX);
    uint64_t offset = 0, n = OBJECT_WHOLE;

    if ((count > 1 && number(arguments[1], &offset, err) < 0) || (count > 2 && number(arguments[2], &n, err) < 0))
        return -1;
    int found = object_get(s, arguments[0], offset, n, &data, err);
    if (found == 1 && fwrite(data.data, 1, data.len, stdout) != data.len)
        return err_set(err, ERR_IO, "writing to standard output");
    return found;
}

static int run_size(struct object_store *s, char **arguments, int count, struct err *err)
{
    uint64_t bytes;
    int found = object_size(s, arguments[0], &bytes, err);

    (void)count;
    if (found == 1)
        printf("%" PRIu64 "\n", bytes);
    return found;
}

static int run_delete(struct object_store *s, char **arguments, int count, struct err *err)
{
    (void)count;
    return object_delete(s, arguments[0], err) < 0 ? -1 : 1;
}

/* All objects with a prefix; one line "page" before each page when the size of pages is given. */
static int run_list(struct object_store *s, char **arguments, int count, struct err *err)
{
    struct object_page page = {0};
    uint64_t limit = OBJECT_PAGE_MAX;
    AUTO_FREE char *after = NULL;

    if (count > 1 && number(arguments[1], &limit, err) < 0)
        return -1;
    do {
        if (object_list(s, count > 0 ? arguments[0] : "", after, (unsigned)limit, &page, err) < 0)
            return -1;
        if (count > 1)
            puts("page");
        for (size_t i = 0; i < page.count; i++)
            printf("%" PRIu64 " %s\n", page.entries[i].bytes, page.entries[i].name);
        free(after);
        after = TAKE_PTR(page.next);
        object_page_done(&page);
    } while (after != NULL);
    return 1;
}

static const struct command commands[] = {
    {"probe", 0, 0, run_probe},
    {"put", 2, 2, run_put},
    {"put-new", 2, 2, run_put_new},
    {"put-file", 2, 2, run_put_file},
    {"get", 1, 3, run_get},
    {"size", 1, 1, run_size},
    {"delete", 1, 1, run_delete},
    {"list", 0, 2, run_list},
};

static int usage(void)
{
    fputs("leeward-object URL probe | put NAME FILE | put-new NAME FILE | put-file NAME FILE | get NAME [OFFSET "
          "[BYTES]] | size NAME | "
          "delete NAME |\n"
          "                   list [PREFIX [PAGE]]\n"
          "URL: file:///PATH, azure://ACCOUNT/CONTAINER[/PREFIX], s3://BUCKET[/PREFIX]\n"
          "Environment: LEEWARD_OBJECT_ENDPOINT, LEEWARD_OBJECT_REGION, LEEWARD_OBJECT_KEY_ID, LEEWARD_OBJECT_SECRET "
          "(account key or\n"
          "secret key), LEEWARD_OBJECT_SAS, LEEWARD_OBJECT_TRIES, LEEWARD_OBJECT_STALL (seconds)\n",
        stderr);
    return EXIT_USE;
}

static unsigned environment_number(const char *name)
{
    const char *text = getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static int run(const struct command *c, int argc, char **argv, struct err *err)
{
    struct object_store *s AUTO_OF(object_store) = NULL;
    struct object_conf conf = {
        .url = argv[1],
        .endpoint = getenv("LEEWARD_OBJECT_ENDPOINT"),
        .region = getenv("LEEWARD_OBJECT_REGION"),
        .key_id = getenv("LEEWARD_OBJECT_KEY_ID"),
        .secret = getenv("LEEWARD_OBJECT_SECRET"),
        .sas = getenv("LEEWARD_OBJECT_SAS"),
        .tries = environment_number("LEEWARD_OBJECT_TRIES"),
        .stall_seconds = environment_number("LEEWARD_OBJECT_STALL"),
    };

    if (object_open(&conf, &s, err) < 0)
        return -1;
    return c->run(s, argv + 3, argc - 3, err);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;

    for (size_t i = 0; argc > 2 && i < ARRAY_LEN(commands); i++) {
        const struct command *c = &commands[i];

        if (strcmp(argv[2], c->word) != 0 || argc - 3 < c->arguments_min || argc - 3 > c->arguments_max)
            continue;
        int rc = run(c, argc, argv, &err);
        if (rc < 0)
            fprintf(stderr, "%s: %s%s%s\n", err_code_name(err.code), err.text, err.correction[0] ? "\n" : "",
                err.correction);
        return rc < 0 ? EXIT_FAILURE : rc == 0 ? EXIT_ABSENT : EXIT_SUCCESS;
    }
    return usage();
}
