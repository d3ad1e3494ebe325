/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration from one table of rows. Sources are applied from the weakest to the strongest (default, file,
 * environment, command line), each through set_value(), which is the only place that parses and checks a
 * value; what is set again replaces what was there. The file is read by libconfuse with every key declared as
 * a string, so that a bare number, a size and a quoted text arrive alike; a key that is in no row is an error
 * that names file and line.
 *
 * Failure modes: each error names the key, where the value came from and what would be right; a secret's
 * value is in no message. After a failure everything allocated is freed and the struct is zero again.
 */
#include "transport/base/conf.h"

#include <confuse.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

enum { STRING_MAX = 4096, SECRET_FILE_MAX = 64 * 1024 };

struct conf {
    const struct conf_row *rows;
    size_t row_count;
    const char *daemon;
    char *config;
    bool *is_set; /* by row: some source other than the default gave it */
};

static const char *type_word(enum conf_type type)
{
    static const char *const words[] = {
        [CONF_STRING] = "text",
        [CONF_BOOL] = "true|false",
        [CONF_UINT] = "number",
        [CONF_BYTES] = "size",
        [CONF_USEC] = "duration",
    };

    return words[type];
}

static const struct conf_row *find_row(const struct conf *c, const char *key, size_t len)
{
    for (size_t i = 0; i < c->row_count; i++)
        if (strlen(c->rows[i].key) == len && strncmp(c->rows[i].key, key, len) == 0)
            return &c->rows[i];
    return NULL;
}

static int parse_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret_value = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return -1;
}

/* A plain number, or one with a K, M, G or T suffix (optionally followed by "iB" or "B") when units are
 * allowed. */
static int parse_number(const char *text, bool units, uint64_t *ret_value)
{
    static const char suffixes[] = "KMGT";
    char *end;

    if (!isdigit((unsigned char)*text))
        return -1;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0)
        return -1;
    if (units && *end) {
        const char *unit = strchr(suffixes, toupper((unsigned char)*end));
        unsigned shift = unit ? 10U * (unsigned)(unit - suffixes + 1) : 0;
        if (shift && value > UINT64_MAX >> shift)
            return -1;
        value <<= shift;
        end += unit ? 1 : 0;
        if (unit && strcmp(end, "iB") == 0)
            end += 2;
        else if (strcmp(end, "B") == 0)
            end += 1;
    }
    *ret_value = value;
    return *end ? -1 : 0;
}

int conf_parse_bytes(const char *text, uint64_t *ret_bytes)
{
    return parse_number(text, true, ret_bytes);
}

/* `from` is where the value stands: "on the command line", "in /etc/leeward/agent.conf", ... */
static int set_string(char **slot, const struct conf_row *row, const char *text, const char *from, struct err *err)
{
    size_t max = row->max ? row->max : STRING_MAX;

    if (strlen(text) > max)
        return err_set(err, ERR_INVALID, "%s %s is longer than %zu bytes", row->key, from, max);
    char *copy = mem_strdup(text);
    if (!copy)
        return err_set(err, ERR_NOMEM, "out of memory for the value of %s", row->key);
    free(*slot);
    *slot = copy;
    return 0;
}

/* A bound as somebody would write it: 500ms, 90s, 2h; what is no duration as it is. */
static const char *bound_text(const struct conf_row *row, uint64_t value, char text[static 32])
{
    static const struct {
        uint64_t usec;
        const char *suffix;
    } units[] = {{86400 * USEC_PER_SEC, "d"}, {3600 * USEC_PER_SEC, "h"}, {60 * USEC_PER_SEC, "m"}, {USEC_PER_SEC, "s"},
        {USEC_PER_MSEC, "ms"}, {1, "us"}};
    size_t i = 0;

    if (row->type != CONF_USEC) {
        (void)snprintf(text, 32, "%llu", (unsigned long long)value);
        return text;
    }
    while (value == 0 ? units[i].usec > USEC_PER_SEC : value % units[i].usec != 0)
        i++;
    (void)snprintf(text, 32, "%llu%s", (unsigned long long)(value / units[i].usec), units[i].suffix);
    return text;
}

static int set_number(uint64_t *slot, const struct conf_row *row, const char *text, const char *from, struct err *err)
{
    uint64_t value = 0;
    int rc = row->type == CONF_USEC ? clock_parse_duration(text, &value, NULL)
                                    : parse_number(text, row->type == CONF_BYTES, &value);

    if (rc < 0) {
        (void)err_set(err, ERR_INVALID, "%s %s: \"%.64s\" is not a %s", row->key, from, text, type_word(row->type));
        return err_hint(err, "%s",
            row->type == CONF_USEC    ? "Write a number with a unit: 500ms, 90s, 15m, 2h or 7d."
            : row->type == CONF_BYTES ? "Write a number with an optional K, M, G or T: 64M."
                                      : "Write a whole number.");
    }
    if (value < row->min || (row->max && value > row->max)) {
        (void)err_set(err, ERR_INVALID, "%s %s: \"%.64s\" is out of range", row->key, from, text);
        char least[32], most[32];

        if (row->max)
            return err_hint(
                err, "It may be from %s to %s.", bound_text(row, row->min, least), bound_text(row, row->max, most));
        return err_hint(err, "It must be %s at least.", bound_text(row, row->min, least));
    }
    *slot = value;
    return 0;
}

static int set_value(struct conf *c, const struct conf_row *row, const char *text, const char *from, struct err *err)
{
    void *slot = c->config + row->offset;

    switch (row->type) {
    case CONF_STRING:
        return set_string(slot, row, text, from, err);
    case CONF_BOOL:
        if (parse_bool(text, slot) < 0) {
            (void)err_set(err, ERR_INVALID, "%s %s: \"%.64s\" is neither true nor false", row->key, from, text);
            return err_hint(err, "Write true or false.");
        }
        return 0;
    case CONF_UINT:
    case CONF_BYTES:
    case CONF_USEC:
        return set_number(slot, row, text, from, err);
    }
    return err_set(err, ERR_INTERNAL, "the row of %s has no type", row->key);
}

static int give_value(struct conf *c, const struct conf_row *row, const char *text, const char *from, struct err *err)
{
    if (set_value(c, row, text, from, err) < 0)
        return -1;
    c->is_set[row - c->rows] = true;
    return 0;
}

/* --token-file PATH: the secret is the file's first line. */
static int give_secret_file(
    struct conf *c, const struct conf_row *row, const char *path, const char *from, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT(SECRET_FILE_MAX);

    if (file_read(path, &b, err) < 0)
        return err_wrap(err, "%s-file %s", row->key, from);
    const char *text = buf_str(&b, err);
    if (!text)
        return -1;
    b.data[strcspn(text, "\r\n")] = '\0';
    return give_value(c, row, text, from, err);
}

/* ---- the four sources ---- */

static int take_defaults(struct conf *c, struct err *err)
{
    for (size_t i = 0; i < c->row_count; i++) {
        const struct conf_row *row = &c->rows[i];
        if (row->fallback && set_value(c, row, row->fallback, "by default", err) < 0)
            return -1;
        if (!row->fallback && row->type == CONF_STRING && set_value(c, row, "", "by default", err) < 0)
            return -1;
    }
    return 0;
}

/* What libconfuse says about the file; it hands over no context, and one thread loads one configuration. */
static char file_complaint[200];

static void keep_complaint(cfg_t *cfg, const char *fmt, va_list ap)
{
    char text[150];

    (void)vsnprintf(text, sizeof(text), fmt, ap);
    (void)snprintf(file_complaint, sizeof(file_complaint), "line %d: %s", cfg ? cfg->line : 0, text);
}

static int take_parsed(struct conf *c, cfg_t *cfg, const char *path, struct err *err)
{
    AUTO_FREE char *from = mem_printf("in %s", path);

    if (!from)
        return err_set(err, ERR_NOMEM, "out of memory for reading %s", path);
    for (size_t i = 0; i < c->row_count; i++) {
        const char *text = cfg_size(cfg, c->rows[i].key) ? cfg_getstr(cfg, c->rows[i].key) : NULL;
        if (text && give_value(c, &c->rows[i], text, from, err) < 0)
            return -1;
    }
    return 0;
}

static int parse_file(struct conf *c, cfg_opt_t *opts, const char *path, struct err *err)
{
    cfg_t *cfg = cfg_init(opts, CFGF_NONE);
    int rc;

    if (!cfg)
        return err_set(err, ERR_NOMEM, "out of memory for reading %s", path);
    cfg_set_error_function(cfg, keep_complaint);
    file_complaint[0] = '\0';
    int parsed = cfg_parse(cfg, path);
    if (parsed == CFG_SUCCESS) {
        rc = take_parsed(c, cfg, path, err);
    } else if (parsed == CFG_FILE_ERROR) {
        rc = err_sys(err, errno, "opening the configuration file %s", path);
    } else {
        rc = err_set(err, ERR_INVALID, "the configuration file %s, %s", path, file_complaint);
        (void)err_hint(err, "Each line is \"key = value\" with a key that %s --help lists.", c->daemon);
    }
    (void)cfg_free(cfg);
    return rc;
}

static int take_file(struct conf *c, const char *path, struct err *err)
{
    AUTO_FREE cfg_opt_t *opts = mem_alloc(c->row_count + 1, sizeof(*opts));

    if (!opts)
        return err_set(err, ERR_NOMEM, "out of memory for reading %s", path);
    for (size_t i = 0; i < c->row_count; i++)
        opts[i] = (cfg_opt_t)CFG_STR(c->rows[i].key, NULL, CFGF_NODEFAULT);
    opts[c->row_count] = (cfg_opt_t)CFG_END();
    return parse_file(c, opts, path, err);
}

static int take_environment(struct conf *c, struct err *err)
{
    for (size_t i = 0; i < c->row_count; i++) {
        AUTO_FREE char *name = mem_printf("LEEWARD_%s", c->rows[i].key);
        if (!name)
            return err_set(err, ERR_NOMEM, "out of memory for the environment");
        for (char *p = name; *p; p++)
            *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        const char *text = getenv(name);
        if (text && give_value(c, &c->rows[i], text, "in the environment", err) < 0)
            return -1;
    }
    return 0;
}

/* One argument of the command line: "--key", "--key=value" or "--key value". */
struct argument {
    const char *key;
    size_t key_len;
    const char *value; /* NULL: none in this argument */
};

static int split_argument(const char *text, const char *daemon, struct argument *ret_a, struct err *err)
{
    if (strncmp(text, "--", 2) != 0 || !text[2]) {
        (void)err_set(err, ERR_INVALID, "\"%.64s\" is not an option", text);
        return err_hint(err, "%s --help lists the options.", daemon);
    }
    const char *equals = strchr(text, '=');
    ret_a->key = text + 2;
    ret_a->key_len = equals ? (size_t)(equals - ret_a->key) : strlen(ret_a->key);
    ret_a->value = equals ? equals + 1 : NULL;
    return 0;
}

static bool argument_is(const struct argument *a, const char *key)
{
    return strlen(key) == a->key_len && strncmp(a->key, key, a->key_len) == 0;
}

/* The row that an argument names; *ret_file says that it was the --key-file form of a secret. */
static const struct conf_row *row_of_argument(const struct conf *c, const struct argument *a, bool *ret_file)
{
    static const char suffix[] = "-file";
    size_t suffix_len = sizeof(suffix) - 1;
    const struct conf_row *row = find_row(c, a->key, a->key_len);

    *ret_file = false;
    if (row || a->key_len <= suffix_len || strncmp(a->key + a->key_len - suffix_len, suffix, suffix_len) != 0)
        return row;
    row = find_row(c, a->key, a->key_len - suffix_len);
    *ret_file = true;
    return row && row->secret ? row : NULL;
}

static int refuse_argument(const struct conf_row *row, struct err *err)
{
    (void)err_set(err, ERR_INVALID, "--%s on the command line could be read by everybody on this machine", row->key);
    return err_hint(err, "Write it to a file and give --%s-file PATH.", row->key);
}

/* Walks the arguments; with `file_only` it looks for --config alone, since the file is weaker than the
 * others. */
static int take_arguments(struct conf *c, int argc, char **argv, bool file_only, const char **ret_file, struct err *err)
{
    for (int i = 1; i < argc; i++) {
        struct argument a = {0};
        bool from_file;
        if (split_argument(argv[i], c->daemon, &a, err) < 0)
            return -1;
        const struct conf_row *row = row_of_argument(c, &a, &from_file);
        if (!row && !argument_is(&a, "config")) {
            (void)err_set(err, ERR_INVALID, "there is no option --%.*s", (int)a.key_len, a.key);
            return err_hint(err, "%s --help lists the options.", c->daemon);
        }
        if (!a.value && row && row->type == CONF_BOOL)
            a.value = "true";
        else if (!a.value && ++i < argc)
            a.value = argv[i];
        if (!a.value)
            return err_set(err, ERR_INVALID, "--%.*s needs a value", (int)a.key_len, a.key);
        if (!row)
            *ret_file = a.value;
        else if (!file_only && from_file && give_secret_file(c, row, a.value, "on the command line", err) < 0)
            return -1;
        else if (!file_only && !from_file && row->no_argument)
            return refuse_argument(row, err);
        else if (!file_only && !from_file && give_value(c, row, a.value, "on the command line", err) < 0)
            return -1;
    }
    return 0;
}

static int check_required(const struct conf *c, struct err *err)
{
    for (size_t i = 0; i < c->row_count; i++) {
        if (!c->rows[i].required || c->is_set[i])
            continue;
        (void)err_set(err, ERR_INVALID, "%s is not set", c->rows[i].key);
        return err_hint(err, "Give --%s%s, or put \"%s = ...\" into the file of --config.", c->rows[i].key,
            c->rows[i].secret ? "-file PATH" : " VALUE", c->rows[i].key);
    }
    return 0;
}

/* ---- help ---- */

static void print_help(const struct conf_row *rows, size_t row_count, const char *daemon, const char *summary)
{
    printf("%s - %s\n\nUsage: %s [--config FILE] [--KEY VALUE ...]\n\n", daemon, summary, daemon);
    for (size_t i = 0; i < row_count; i++) {
        const struct conf_row *row = &rows[i];
        printf(
            "  --%s %s\n      %s", row->key, row->type == CONF_BOOL ? "[true|false]" : type_word(row->type), row->help);
        if (row->required)
            printf(" (required)");
        if (row->fallback && row->fallback[0])
            printf(" (default: %s)", row->fallback);
        if (row->secret)
            printf(" (secret; rather --%s-file PATH)", row->key);
        printf("\n");
    }
    printf("  --config FILE\n      File with lines \"key = value\"; the environment (LEEWARD_KEY) and "
           "options are stronger.\n"
           "  --help, --help-markdown, --version\n");
}

void conf_print_markdown(const struct conf_row *rows, size_t row_count, const char *daemon, const char *summary)
{
    size_t len = strlen(summary);

    printf("# %s\n\n%s%s\n\n| key | type | default | what it is |\n|---|---|---|---|\n", daemon, summary,
        len > 0 && summary[len - 1] == '.' ? "" : ".");
    for (size_t i = 0; i < row_count; i++) {
        const struct conf_row *row = &rows[i];
        printf("| `%s` | %s | %s%s%s | %s%s%s |\n", row->key,
            row->type == CONF_BOOL ? "true or false" : type_word(row->type),
            row->fallback && row->fallback[0] ? "`" : "", row->fallback ? row->fallback : "",
            row->fallback && row->fallback[0] ? "`" : "", row->help, row->required ? " (required)" : "",
            row->secret ? " (secret)" : "");
    }
}

/* 1 when an argument asked for text instead of a start. */
static int answer_questions(const struct conf *c, const char *summary, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            print_help(c->rows, c->row_count, c->daemon, summary);
        else if (strcmp(argv[i], "--help-markdown") == 0)
            conf_print_markdown(c->rows, c->row_count, c->daemon, summary);
        else if (strcmp(argv[i], "--version") == 0)
            printf("%s %s\n", c->daemon, LEEWARD_VERSION);
        else
            continue;
        return 1;
    }
    return 0;
}

static int load_all(struct conf *c, int argc, char **argv, struct err *err)
{
    const char *file = getenv("LEEWARD_CONFIG");

    if (take_arguments(c, argc, argv, true, &file, err) < 0 || take_defaults(c, err) < 0)
        return -1;
    if (file && file[0] && take_file(c, file, err) < 0)
        return -1;
    if (take_environment(c, err) < 0 || take_arguments(c, argc, argv, false, &file, err) < 0)
        return -1;
    return check_required(c, err);
}

int conf_load(const struct conf_row *rows, size_t row_count, const char *daemon, const char *summary, int argc,
    char **argv, void *config, struct err *err)
{
    AUTO_FREE bool *is_set = mem_alloc(row_count + 1, sizeof(bool));
    struct conf c = {.rows = rows, .row_count = row_count, .daemon = daemon, .config = config, .is_set = is_set};

    if (answer_questions(&c, summary, argc, argv))
        return 1;
    if (!is_set)
        return err_set(err, ERR_NOMEM, "out of memory for the configuration");
    if (load_all(&c, argc, argv, err) < 0) {
        conf_done(rows, row_count, config);
        return -1;
    }
    return 0;
}

void conf_done(const struct conf_row *rows, size_t row_count, void *config)
{
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].type != CONF_STRING)
            continue;
        char **slot = (char **)((char *)config + rows[i].offset);
        if (*slot && rows[i].secret)
            explicit_bzero(*slot, strlen(*slot));
        free(*slot);
        *slot = NULL;
    }
}
