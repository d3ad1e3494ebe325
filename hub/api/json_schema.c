/* SPDX-License-Identifier: Apache-2.0
 *
 * A recursive walk over value and schema together. Each keyword is one row of a table: the type of value that it speaks
 * about and the function that checks it. Composition (oneOf, anyOf, allOf) tries without reporting and reports once.
 * Depth is bounded by the schema document, which is ours, and by jansson's parser limit, so that no value can
 * exhaust the stack. Source: JSON Schema 2020-12, core and validation.
 */
#include "hub/api/json_schema.h"

#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transport/base/clock.h"
#include "transport/base/ident.h"
#include "transport/base/mem.h"

#define DEPTH_MAX 64     /* schemas of ours nest to about ten */
#define POINTER_MAX 256u /* longer places are cut: the reader has the head */

struct walk {
    const json_t *root;
    json_t *errors; /* NULL: only yes or no is wanted */
    unsigned depth;
};

void json_schema_fault(json_t *errors, const char *pointer, const char *code, const char *fmt, ...)
{
    char detail[256];
    va_list ap;

    if (!errors || json_array_size(errors) >= JSON_SCHEMA_ERRORS_MAX)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    json_array_append_new(errors, json_pack("{s:s, s:s, s:s}", "pointer", pointer, "code", code, "detail", detail));
}

const json_t *json_schema_resolve(const json_t *root, const json_t *schema)
{
    for (unsigned hops = 0; hops < 8 && schema; hops++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        char path[128];
        char *save = NULL;

        if (!ref)
            return schema;
        if (strncmp(ref, "#/", 2) != 0 || strlen(ref) >= sizeof(path))
            return NULL;
        memcpy(path, ref + 2, strlen(ref) - 1);
        schema = root;
        for (char *part = strtok_r(path, "/", &save); part && schema; part = strtok_r(NULL, "/", &save))
            schema = json_object_get(schema, part);
    }
    return NULL;
}

static bool walk(struct walk *w, const json_t *schema, const json_t *value, const char *pointer);

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        return "null";
    }
    return "unknown";
}

static bool type_matches(const char *wanted, const json_t *value)
{
    const char *have = type_name(value);

    if (wanted && strcmp(wanted, "number") == 0 && json_is_integer(value))
        return true;
    return wanted && strcmp(wanted, have) == 0;
}

static bool check_type(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    char wanted[96] = "";
    const json_t *one;
    size_t i;

    (void)schema;
    if (json_is_string(rule)) {
        if (type_matches(json_string_value(rule), value))
            return true;
        (void)snprintf(wanted, sizeof(wanted), "%s", json_string_value(rule));
    } else {
        json_array_foreach(rule, i, one)
        {
            if (type_matches(json_string_value(one), value))
                return true;
            size_t used = strlen(wanted);
            (void)snprintf(wanted + used, sizeof(wanted) - used, "%s%s", i ? " or " : "", json_string_value(one));
        }
    }
    json_schema_fault(w->errors, at, "type", "must be %s, is %s", wanted, type_name(value));
    return false;
}

static bool check_enum(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    const json_t *one;
    size_t i;
    char text[256] = "";
    size_t used = 0;

    (void)schema;
    json_array_foreach(rule, i, one) if (json_equal(one, value)) return true;
    json_array_foreach(rule, i, one) if (json_is_string(one) && used < sizeof(text)) used +=
        (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? ", " : "", json_string_value(one));
    json_schema_fault(w->errors, at, "enum", "must be one of: %s", text);
    return false;
}

static bool check_const(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    AUTO_FREE char *text = NULL;

    (void)schema;
    if (json_equal(rule, value))
        return true;
    text = json_dumps(rule, JSON_COMPACT | JSON_ENCODE_ANY);
    json_schema_fault(w->errors, at, "const", "must be %s", text ? text : "the fixed value");
    return false;
}

/* RFC 6901: "~" and "/" in a member's name are escaped. */
static void pointer_join(char out[POINTER_MAX], const char *base, const char *name)
{
    size_t n = strlen(base);

    if (n > POINTER_MAX - 8)
        n = POINTER_MAX - 8;
    memcpy(out, base, n);
    out[n++] = '/';
    for (; *name && n < POINTER_MAX - 3; name++) {
        if (*name == '~' || *name == '/') {
            out[n++] = '~';
            out[n++] = *name == '~' ? '0' : '1';
        } else {
            out[n++] = *name;
        }
    }
    out[n] = 0;
}

static bool check_properties(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    const char *name;
    json_t *member;
    bool ok = true;

    (void)schema;
    json_object_foreach((json_t *)value, name, member)
    {
        const json_t *sub = json_object_get(rule, name);
        char place[POINTER_MAX];

        if (!sub)
            continue;
        pointer_join(place, at, name);
        ok = walk(w, sub, member, place) && ok;
    }
    return ok;
}

static bool check_additional(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    const json_t *known = json_object_get(schema, "properties");
    const char *name;
    json_t *member;
    bool ok = true;

    json_object_foreach((json_t *)value, name, member)
    {
        char place[POINTER_MAX];

        if (json_object_get(known, name) || json_is_true(rule))
            continue;
        pointer_join(place, at, name);
        if (json_is_false(rule)) {
            json_schema_fault(w->errors, place, "unknown_field", "this field is not known here");
            ok = false;
        } else {
            ok = walk(w, rule, member, place) && ok;
        }
    }
    return ok;
}

static bool check_required(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    const json_t *name;
    size_t i;
    bool ok = true;

    (void)schema;
    json_array_foreach(rule, i, name)
    {
        char place[POINTER_MAX];

        if (json_object_get(value, json_string_value(name)))
            continue;
        pointer_join(place, at, json_string_value(name));
        json_schema_fault(w->errors, place, "required", "this field is missing");
        ok = false;
    }
    return ok;
}

static bool check_min_properties(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (json_object_size(value) >= (size_t)json_integer_value(rule))
        return true;
    json_schema_fault(w->errors, at, "too_few", "at least %lld field(s) must be given", json_integer_value(rule));
    return false;
}

static bool check_items(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    const json_t *item;
    size_t i;
    bool ok = true;

    (void)schema;
    json_array_foreach(value, i, item)
    {
        char number[24], place[POINTER_MAX];

        (void)snprintf(number, sizeof(number), "%zu", i);
        pointer_join(place, at, number);
        ok = walk(w, rule, item, place) && ok;
    }
    return ok;
}

static bool check_min_items(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (json_array_size(value) >= (size_t)json_integer_value(rule))
        return true;
    json_schema_fault(w->errors, at, "too_few", "must have at least %lld item(s)", json_integer_value(rule));
    return false;
}

static bool check_max_items(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (json_array_size(value) <= (size_t)json_integer_value(rule))
        return true;
    json_schema_fault(w->errors, at, "too_many", "must have at most %lld item(s)", json_integer_value(rule));
    return false;
}

static bool check_unique(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    for (size_t i = 1; json_is_true(rule) && i < json_array_size(value); i++)
        for (size_t k = 0; k < i; k++)
            if (json_equal(json_array_get(value, i), json_array_get(value, k))) {
                json_schema_fault(w->errors, at, "not_unique", "items %zu and %zu are the same", k, i);
                return false;
            }
    return true;
}

/* Code points of valid UTF-8 (jansson lets nothing else in). */
static size_t utf8_length(const json_t *value)
{
    const char *s = json_string_value(value);
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static bool check_min_length(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (utf8_length(value) >= (size_t)json_integer_value(rule))
        return true;
    json_schema_fault(w->errors, at, "too_short", "must have at least %lld character(s)", json_integer_value(rule));
    return false;
}

static bool check_max_length(
    struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (utf8_length(value) <= (size_t)json_integer_value(rule))
        return true;
    json_schema_fault(w->errors, at, "too_long", "must have at most %lld character(s)", json_integer_value(rule));
    return false;
}

static bool check_pattern(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    regex_t re;
    bool ok;

    (void)schema;
    if (regcomp(&re, json_string_value(rule), REG_EXTENDED | REG_NOSUB) != 0) {
        json_schema_fault(w->errors, at, "pattern", "the pattern of the schema cannot be compiled");
        return false;
    }
    ok = regexec(&re, json_string_value(value), 0, NULL, 0) == 0;
    regfree(&re);
    if (!ok)
        json_schema_fault(w->errors, at, "pattern", "must match %s", json_string_value(rule));
    return ok;
}

static bool is_digits(const char *s)
{
    return *s && strspn(s, "0123456789") == strlen(s) && strlen(s) <= 20;
}

static bool check_format(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    const char *format = json_string_value(rule);
    const char *s = json_string_value(value);
    struct ident id;
    uint64_t usec;
    bool ok = true;

    (void)schema;
    if (strcmp(format, "uuid") == 0)
        ok = ident_from_text(s, &id) == 0;
    else if (strcmp(format, "date-time") == 0)
        ok = clock_parse_rfc3339(s, &usec, NULL) == 0;
    else if (strcmp(format, "uint64") == 0)
        ok = is_digits(s);
    if (!ok)
        json_schema_fault(w->errors, at, "format", "must be a %s", format);
    return ok;
}

static bool check_minimum(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (json_number_value(value) >= json_number_value(rule))
        return true;
    json_schema_fault(w->errors, at, "too_small", "must be at least %.17g", json_number_value(rule));
    return false;
}

static bool check_maximum(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (json_number_value(value) <= json_number_value(rule))
        return true;
    json_schema_fault(w->errors, at, "too_large", "must be at most %.17g", json_number_value(rule));
    return false;
}

static size_t count_matches(struct walk *w, const json_t *rule, const json_t *value, const char *at)
{
    struct walk quiet = {.root = w->root, .depth = w->depth};
    const json_t *one;
    size_t i, n = 0;

    json_array_foreach(rule, i, one) n += walk(&quiet, one, value, at);
    return n;
}

static bool check_any_of(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (count_matches(w, rule, value, at) >= 1)
        return true;
    json_schema_fault(w->errors, at, "any_of", "has none of the allowed forms");
    return false;
}

static bool check_one_of(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    (void)schema;
    if (count_matches(w, rule, value, at) == 1)
        return true;
    json_schema_fault(w->errors, at, "one_of", "has none, or more than one, of the allowed forms");
    return false;
}

static bool check_all_of(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at)
{
    const json_t *one;
    size_t i;
    bool ok = true;

    (void)schema;
    json_array_foreach(rule, i, one) ok = walk(w, one, value, at) && ok;
    return ok;
}

enum speaks_of { ANY, OBJECTS, ARRAYS, STRINGS, NUMBERS };

static const struct keyword {
    const char *name;
    enum speaks_of of;
    bool (*check)(struct walk *w, const json_t *rule, const json_t *schema, const json_t *value, const char *at);
} keywords[] = {
    {"type", ANY, check_type},
    {"enum", ANY, check_enum},
    {"const", ANY, check_const},
    {"properties", OBJECTS, check_properties},
    {"additionalProperties", OBJECTS, check_additional},
    {"required", OBJECTS, check_required},
    {"minProperties", OBJECTS, check_min_properties},
    {"items", ARRAYS, check_items},
    {"minItems", ARRAYS, check_min_items},
    {"maxItems", ARRAYS, check_max_items},
    {"uniqueItems", ARRAYS, check_unique},
    {"minLength", STRINGS, check_min_length},
    {"maxLength", STRINGS, check_max_length},
    {"pattern", STRINGS, check_pattern},
    {"format", STRINGS, check_format},
    {"minimum", NUMBERS, check_minimum},
    {"maximum", NUMBERS, check_maximum},
    {"anyOf", ANY, check_any_of},
    {"oneOf", ANY, check_one_of},
    {"allOf", ANY, check_all_of},
};

/* Said to people and to generators of clients; nothing to check. */
static const char *const annotations[] = {
    "$ref", "title", "description", "default", "examples", "readOnly", "writeOnly", "deprecated"};

static bool speaks_of(enum speaks_of of, const json_t *value)
{
    return of == ANY || (of == OBJECTS && json_is_object(value)) || (of == ARRAYS && json_is_array(value)) ||
           (of == STRINGS && json_is_string(value)) || (of == NUMBERS && json_is_number(value));
}

static bool walk(struct walk *w, const json_t *schema, const json_t *value, const char *pointer)
{
    const json_t *resolved = json_schema_resolve(w->root, schema);
    bool ok = true;

    if (!resolved || w->depth >= DEPTH_MAX) {
        json_schema_fault(w->errors, pointer, "schema", "the schema of this place cannot be followed");
        return false;
    }
    w->depth++;
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        const json_t *rule = json_object_get(resolved, keywords[i].name);

        if (rule && speaks_of(keywords[i].of, value))
            ok = keywords[i].check(w, rule, resolved, value, pointer) && ok;
    }
    w->depth--;
    return ok;
}

bool json_schema_valid(
    const json_t *root, const json_t *schema, const json_t *value, const char *pointer, json_t *errors)
{
    struct walk w = {.root = root, .errors = errors};

    return walk(&w, schema, value, pointer);
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        if (strcmp(keywords[i].name, name) == 0)
            return true;
    for (size_t i = 0; i < ARRAY_LEN(annotations); i++)
        if (strcmp(annotations[i], name) == 0)
            return true;
    return false;
}

const char *json_schema_unknown_keyword(const json_t *schema)
{
    const char *name, *found, *member_name;
    json_t *rule, *member;
    size_t i;

    json_object_foreach((json_t *)schema, name, rule)
    {
        if (!is_known(name))
            return name;
        if (strcmp(name, "properties") == 0) {
            json_object_foreach(
                rule, member_name, member) if ((found = json_schema_unknown_keyword(member))) return found;
        } else if (json_is_object(rule) && (strcmp(name, "items") == 0 || strcmp(name, "additionalProperties") == 0)) {
            if ((found = json_schema_unknown_keyword(rule)))
                return found;
        } else if (json_is_array(rule) &&
                   (strcmp(name, "anyOf") == 0 || strcmp(name, "oneOf") == 0 || strcmp(name, "allOf") == 0)) {
            json_array_foreach(rule, i, member) if ((found = json_schema_unknown_keyword(member))) return found;
        }
    }
    return NULL;
}
