/* SPDX-License-Identifier: Apache-2.0
 *
 * Cells are rendered first, so that each column is as wide as its widest cell; widths count code points.
 */
#include "hub/cli/output.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/mem.h"

#define CELL_MAX 512u
#define COLUMNS_MAX 24u
#define NAME_WIDTH_MIN 26u  /* of the members of an item: most are shorter, and so they stand alike */
#define TITLE_WIDTH_MIN 20u /* likewise, in people's words */

void output_json(const json_t *value, FILE *out)
{
    (void)json_dumpf(value, out, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    (void)fputc('\n', out);
}

static void sanitize(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

void output_text(const char *text, FILE *out)
{
    for (; *text; text++)
        (void)fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, out);
}

void output_cut(char *text, size_t columns)
{
    for (; *text; text++)
        if (((unsigned char)*text & 0xc0) != 0x80 && columns-- == 0) {
            *text = '\0';
            return;
        }
}

static void render_bytes(double bytes, char *out, size_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned unit = 0;

    for (; bytes >= 1024 && unit + 1 < ARRAY_LEN(units); unit++)
        bytes /= 1024;
    (void)snprintf(out, n, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void render_rate(double bytes_per_second, char *out, size_t n)
{
    char bytes[32];

    render_bytes(bytes_per_second, bytes, sizeof(bytes));
    (void)snprintf(out, n, "%s/s", bytes);
}

static void render_seconds(double s, char *out, size_t n)
{
    if (s < 0.001)
        (void)snprintf(out, n, s == 0 ? "0" : "<1 ms");
    else if (s < 1)
        (void)snprintf(out, n, "%.0f ms", s * 1000);
    else if (s < 120)
        (void)snprintf(out, n, "%.3g s", s);
    else if (s < 7200)
        (void)snprintf(out, n, "%.0f min", s / 60);
    else if (s < 172800)
        (void)snprintf(out, n, "%.3g h", s / 3600);
    else
        (void)snprintf(out, n, "%.3g d", s / 86400);
}

static void render_list(const json_t *value, char *out, size_t n)
{
    const json_t *one;
    size_t i, used = 0;

    (void)snprintf(out, n, json_array_size(value) == 0 ? "-" : "");
    json_array_foreach(value, i, one) if (json_is_string(one) && used < n) used +=
        (size_t)snprintf(out + used, n - used, "%s%s", i ? ", " : "", json_string_value(one));
}

static bool is_digits(const char *text)
{
    return text && *text && strspn(text, "0123456789") == strlen(text);
}

void output_value(const json_t *value, enum column_form form, char *out, size_t n)
{
    if (!value || json_is_null(value)) {
        (void)snprintf(out, n, "-");
        return;
    }
    if (form == COLUMN_BYTES && json_is_number(value))
        render_bytes(json_number_value(value), out, n);
    else if (form == COLUMN_BYTES && is_digits(json_string_value(value))) /* counters that can pass 2^53 */
        render_bytes(strtod(json_string_value(value), NULL), out, n);
    else if (form == COLUMN_RATE && json_is_number(value))
        render_rate(json_number_value(value), out, n);
    else if (form == COLUMN_SECONDS && json_is_number(value))
        render_seconds(json_number_value(value), out, n);
    else if (form == COLUMN_PERCENT && json_is_number(value))
        (void)snprintf(out, n, "%.0f %%", json_number_value(value));
    else if (form == COLUMN_TIME && json_is_string(value))
        (void)snprintf(out, n, "%.19sZ", json_string_value(value));
    else if (json_is_boolean(value))
        (void)snprintf(out, n, "%s", json_is_true(value) ? "yes" : "no");
    else if (json_is_string(value))
        (void)snprintf(out, n, "%s", *json_string_value(value) ? json_string_value(value) : "-");
    else if (json_is_integer(value))
        (void)snprintf(out, n, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        (void)snprintf(out, n, "%.6g", json_real_value(value));
    else
        render_list(value, out, n);
    sanitize(out);
}

static size_t width_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void print_cell(const char *text, size_t width, bool right, bool last, FILE *out)
{
    size_t pad = width > width_of(text) ? width - width_of(text) : 0;

    if (right)
        (void)fprintf(out, "%*s%s", (int)pad, "", text);
    else if (last)
        (void)fputs(text, out);
    else
        (void)fprintf(out, "%s%*s", text, (int)pad, "");
    (void)fputs(last ? "\n" : "  ", out);
}

/* What nothing means where a limit or a time may be set. */
static const char *word_of_zero(const char *member)
{
    static const struct {
        const char *member, *word;
    } words[] = {{"throttle_bytes_per_second", "no limit"}, {"machine_throttle_bytes_per_second", "no limit"},
        {"work_hours_throttle_bytes_per_second", "no limit"}, {"cpu_limit_percent", "no limit"},
        {"keep_tagged_seconds", "for ever"}, {"lock_seconds", "none"}, {"filesystem_interval_seconds", "none"},
        {"app_interval_seconds", "none"}};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i].member, member) == 0)
            return words[i].word;
    return NULL;
}

/* The value of a member, in a table or alone. */
static void show(const char *member, const json_t *value, enum column_form form, char *out, size_t n)
{
    const char *word = json_is_number(value) && json_number_value(value) == 0 ? word_of_zero(member) : NULL;

    if (word)
        (void)snprintf(out, n, "%s", word);
    else
        output_value(value, form, out, n);
}

static bool is_right(enum column_form form)
{
    return form == COLUMN_NUMBER || form == COLUMN_BYTES || form == COLUMN_RATE || form == COLUMN_SECONDS ||
           form == COLUMN_PERCENT;
}

static size_t choose_columns(const struct command_line *line, const struct column *columns, size_t count,
    const struct column *chosen[COLUMNS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < count && n < COLUMNS_MAX; i++)
        if (!columns[i].wide || line->output == OUTPUT_WIDE)
            chosen[n++] = &columns[i];
    return n;
}

int output_items(
    const struct command_line *line, const json_t *items, const struct column *columns, size_t count, FILE *out)
{
    const struct column *chosen[COLUMNS_MAX];
    size_t widths[COLUMNS_MAX], n = choose_columns(line, columns, count, chosen), i;
    char cell[CELL_MAX];
    const json_t *item;

    if (line->output == OUTPUT_JSON) {
        json_t *list = json_pack("{s:O}", "items", items);

        output_json(list, out);
        json_decref(list);
        return 0;
    }
    if (json_array_size(items) == 0 && isatty(STDERR_FILENO))
        (void)fputs("There is none.\n", stderr); /* for people: the titles alone look as if something were cut off */
    for (size_t c = 0; c < n; c++) {
        widths[c] = width_of(chosen[c]->title);
        json_array_foreach(items, i, item)
        {
            show(chosen[c]->member, json_object_get(item, chosen[c]->member), chosen[c]->form, cell, sizeof(cell));
            widths[c] = width_of(cell) > widths[c] ? width_of(cell) : widths[c];
        }
    }
    for (size_t c = 0; c < n; c++)
        print_cell(chosen[c]->title, widths[c], is_right(chosen[c]->form), c + 1 == n, out);
    json_array_foreach(items, i, item) for (size_t c = 0; c < n; c++)
    {
        show(chosen[c]->member, json_object_get(item, chosen[c]->member), chosen[c]->form, cell, sizeof(cell));
        print_cell(cell, widths[c], is_right(chosen[c]->form), c + 1 == n, out);
    }
    return 0;
}

/* The unit in a member's name says how to show it. */
static enum column_form form_of_member(const char *name)
{
    static const struct {
        const char *end;
        enum column_form form;
    } forms[] = {{"_bytes", COLUMN_BYTES}, {"_bytes_per_second", COLUMN_RATE}, {"_bytes_per_day", COLUMN_BYTES},
        {"_seconds", COLUMN_SECONDS}, {"_at", COLUMN_TIME}, {"_percent", COLUMN_PERCENT}};
    size_t n = strlen(name);

    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        if (n > strlen(forms[i].end) && strcmp(name + n - strlen(forms[i].end), forms[i].end) == 0)
            return forms[i].form;
    return COLUMN_TEXT;
}

static bool is_list_of_objects(const json_t *value)
{
    return json_is_array(value) && json_object_size(json_array_get(value, 0)) > 0;
}

static void render_member(const char *name, const json_t *value, char *out, size_t n)
{
    if (!json_is_object(value) && !is_list_of_objects(value)) {
        show(name, value, form_of_member(name), out, n);
        return;
    }
    AUTO_FREE char *text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(15));

    (void)snprintf(out, n, "%s", text ? text : "");
    sanitize(out);
}

/* A list within an item: a row for each, under the names of what the first one has. What is no plain value there is JSON. */
static void print_rows(const json_t *list, FILE *out)
{
    const json_t *row;
    const char *name;
    json_t *value;
    size_t i, n = 0, widths[COLUMNS_MAX];
    char cell[CELL_MAX];

    json_object_foreach(json_array_get(list, 0), name, value)
    {
        if (n == COLUMNS_MAX)
            break;
        widths[n] = width_of(name);
        json_array_foreach(list, i, row)
        {
            render_member(name, json_object_get(row, name), cell, sizeof(cell));
            widths[n] = width_of(cell) > widths[n] ? width_of(cell) : widths[n];
        }
        n++;
    }
    for (size_t r = 0; r <= json_array_size(list); r++) { /* the names first */
        size_t c = 0;

        (void)fputs("    ", out);
        json_object_foreach(json_array_get(list, 0), name, value)
        {
            if (c == n)
                break;
            if (r == 0)
                (void)snprintf(cell, sizeof(cell), "%s", name);
            else
                render_member(name, json_object_get(json_array_get(list, r - 1), name), cell, sizeof(cell));
            print_cell(cell, widths[c], is_right(form_of_member(name)), c + 1 == n, out);
            c++;
        }
    }
}

/* ---- one item ---- */

static bool is_empty(const json_t *value)
{
    return json_is_null(value) || (json_is_string(value) && !*json_string_value(value)) ||
           ((json_is_object(value) || json_is_array(value)) && json_object_size(value) + json_array_size(value) == 0);
}

/* What only programs need: versions, and the ids of what has its name beside them. */
static bool is_for_programs(const json_t *item, const char *name)
{
    static const char *const names[] = {"etag", "machine_uid", "boot_id", "cause_code", "cause_values", "values"};
    static const char *const flags[] = {"simulated", "rescue"}; /* said where they hold */
    size_t n = strlen(name);

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (strcmp(flags[i], name) == 0)
            return json_is_false(json_object_get(item, name));
    if (n < 4 || strcmp(name + n - 3, "_id") != 0)
        return false;
    AUTO_FREE char *named = mem_printf("%.*s_name", (int)(n - 3), name);

    return named && json_is_string(json_object_get(item, named));
}

/* The API's name, or what people say: without the unit, which the value has. */
static void title_of(const char *name, bool as_it_is, char *out, size_t n)
{
    static const char *const ends[] = {"_bytes_per_second", "_bytes", "_seconds", "_percent", "_at", "_name"};
    size_t len = strlen(name), end;

    for (size_t i = 0; !as_it_is && i < ARRAY_LEN(ends); i++) {
        end = strlen(ends[i]);
        if (len > end && strcmp(name + len - end, ends[i]) == 0) {
            len -= end;
            break;
        }
    }
    (void)snprintf(out, n, "%.*s", (int)len, name);
    for (char *at = out; !as_it_is && *at; at++)
        *at = *at == '_' ? ' ' : *at;
}

static bool is_shown(const json_t *item, const char *name, const json_t *value, bool all)
{
    return all || (!is_empty(value) && !is_for_programs(item, name));
}

static void print_members(const json_t *item, const char *indent, bool all, FILE *out)
{
    size_t width = all ? NAME_WIDTH_MIN : TITLE_WIDTH_MIN;
    const char *name;
    json_t *value;
    char title[128], cell[CELL_MAX];

    json_object_foreach((json_t *)item, name, value)
    {
        title_of(name, all, title, sizeof(title));
        if (is_shown(item, name, value, all) && strlen(title) > width)
            width = strlen(title);
    }
    json_object_foreach((json_t *)item, name, value)
    {
        if (!is_shown(item, name, value, all))
            continue;
        title_of(name, all, title, sizeof(title));
        if (json_is_object(value) || is_list_of_objects(value)) {
            (void)fprintf(out, "%s%s:\n", indent, title);
            if (json_is_object(value))
                print_members(value, "    ", all, out);
            else
                print_rows(value, out);
            continue;
        }
        show(name, value, form_of_member(name), cell, sizeof(cell));
        (void)fprintf(out, "%s%-*s %s\n", indent, (int)width, title, cell);
    }
}

int output_item(const struct command_line *line, const json_t *item, FILE *out)
{
    if (line->output == OUTPUT_JSON)
        output_json(item, out);
    else
        print_members(item, "", line->output == OUTPUT_WIDE, out);
    return 0;
}

int output_item_and_list(const struct command_line *line, json_t *item, const char *list, const struct column *columns,
    size_t count, FILE *out)
{
    json_t *items;
    int rc;

    if (line->output == OUTPUT_JSON)
        return output_item(line, item, out);
    items = json_incref(json_object_get(item, list));
    (void)json_object_del(item, list);
    rc = output_item(line, item, out);
    if (rc == 0 && json_array_size(items) > 0) {
        (void)fputc('\n', out);
        rc = output_items(line, items, columns, count, out);
    }
    json_decref(items);
    return rc;
}
