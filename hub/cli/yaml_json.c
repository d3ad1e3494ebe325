/* SPDX-License-Identifier: Apache-2.0
 *
 * libyaml's events against a stack of bounded depth. The same rules that read a plain scalar decide whether one is quoted when it is written.
 */
#include "hub/cli/yaml_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "transport/base/mem.h"

#define DEPTH_MAX 32

static inline void event_done(yaml_event_t *event)
{
    yaml_event_delete(event);
}
#define AUTO_EVENT __attribute__((cleanup(event_done)))

/* ---- scalars ---- */

static bool is_digits(const char *s)
{
    return *s && strspn(s, "0123456789") == strlen(s);
}

/* A plain scalar that is not text; NULL: it is text. */
static json_t *plain_value(const char *s)
{
    const char *unsigned_part = s[0] == '-' || s[0] == '+' ? s + 1 : s;
    char *end = NULL;

    if (!*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0 || strcmp(s, "Null") == 0 || strcmp(s, "NULL") == 0)
        return json_null();
    if (strcmp(s, "true") == 0 || strcmp(s, "True") == 0 || strcmp(s, "TRUE") == 0)
        return json_true();
    if (strcmp(s, "false") == 0 || strcmp(s, "False") == 0 || strcmp(s, "FALSE") == 0)
        return json_false();
    if (is_digits(unsigned_part) && strlen(unsigned_part) <= 18)
        return json_integer(strtoll(s, NULL, 10));
    if (strspn(unsigned_part, "0123456789.eE+-") == strlen(unsigned_part) && strpbrk(unsigned_part, "0123456789") &&
        unsigned_part[0] != 'e' && unsigned_part[0] != 'E') {
        double v = strtod(s, &end);

        if (*end == '\0' && isfinite(v))
            return json_real(v);
    }
    return NULL;
}

/* ---- reading ---- */

struct reader {
    yaml_parser_t parser;
    struct err *err;
};

static int refuse(struct reader *r, const yaml_mark_t *at, const char *what)
{
    err_set(r->err, ERR_INVALID, "line %zu: %s", at->line + 1, what);
    return err_hint(r->err, "YAML with maps, lists and plain values, or JSON.");
}

static int next(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return 0;
    err_set(r->err, r->parser.error == YAML_MEMORY_ERROR ? ERR_NOMEM : ERR_INVALID, "line %zu: %s",
        r->parser.problem_mark.line + 1, r->parser.problem ? r->parser.problem : "not YAML");
    return err_hint(r->err, "Look at the indentation and the colons there.");
}

static json_t *read_value(struct reader *r, const yaml_event_t *event, unsigned depth);

static json_t *read_scalar(struct reader *r, const yaml_event_t *e)
{
    const char *s = (const char *)e->data.scalar.value;
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    json_t *value;

    if (e->data.scalar.anchor || e->data.scalar.tag) {
        refuse(r, &e->start_mark, "anchors and tags are not for here");
        return NULL;
    }
    if (strlen(s) != e->data.scalar.length) {
        refuse(r, &e->start_mark, "a text with a zero byte");
        return NULL;
    }
    value = plain ? plain_value(s) : NULL;
    value = value ? value : json_string(s);
    if (!value)
        refuse(r, &e->start_mark, "not UTF-8");
    return value;
}

static json_t *read_list(struct reader *r, unsigned depth)
{
    json_t *list = json_array();

    while (list) {
        AUTO_EVENT yaml_event_t event = {0};
        json_t *item;

        if (next(r, &event) < 0)
            break;
        if (event.type == YAML_SEQUENCE_END_EVENT)
            return list;
        if (!(item = read_value(r, &event, depth)) || json_array_append_new(list, item) < 0)
            break;
    }
    json_decref(list);
    return NULL;
}

static int read_member(struct reader *r, const yaml_event_t *key, json_t *map, unsigned depth)
{
    AUTO_EVENT yaml_event_t event = {0};
    const char *name = (const char *)key->data.scalar.value;
    json_t *value;

    if (key->type != YAML_SCALAR_EVENT || key->data.scalar.anchor || strlen(name) != key->data.scalar.length)
        return refuse(r, &key->start_mark, "a key must be a text");
    if (json_object_get(map, name))
        return refuse(r, &key->start_mark, "the key is there twice");
    if (next(r, &event) < 0 || !(value = read_value(r, &event, depth)))
        return -1;
    return json_object_set_new(map, name, value) < 0 ? refuse(r, &key->start_mark, "not UTF-8") : 0;
}

static json_t *read_map(struct reader *r, unsigned depth)
{
    json_t *map = json_object();

    while (map) {
        AUTO_EVENT yaml_event_t event = {0};

        if (next(r, &event) < 0)
            break;
        if (event.type == YAML_MAPPING_END_EVENT)
            return map;
        if (read_member(r, &event, map, depth) < 0)
            break;
    }
    json_decref(map);
    return NULL;
}

static json_t *read_value(struct reader *r, const yaml_event_t *e, unsigned depth)
{
    if (depth >= DEPTH_MAX) {
        refuse(r, &e->start_mark, "nested too deeply");
        return NULL;
    }
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(r, e);
    case YAML_SEQUENCE_START_EVENT:
        if (!e->data.sequence_start.anchor)
            return read_list(r, depth + 1);
        break;
    case YAML_MAPPING_START_EVENT:
        if (!e->data.mapping_start.anchor)
            return read_map(r, depth + 1);
        break;
    default:
        break;
    }
    refuse(r, &e->start_mark, "anchors and aliases are not for here");
    return NULL;
}

static int read_document(struct reader *r, json_t **ret_value)
{
    AUTO_EVENT yaml_event_t begin = {0};
    AUTO_EVENT yaml_event_t document = {0};
    AUTO_EVENT yaml_event_t first = {0};
    AUTO_EVENT yaml_event_t document_end = {0};
    AUTO_EVENT yaml_event_t end = {0};

    if (next(r, &begin) < 0 || next(r, &document) < 0)
        return -1;
    if (document.type != YAML_DOCUMENT_START_EVENT)
        return refuse(r, &document.start_mark, "the file is empty");
    if (next(r, &first) < 0 || !(*ret_value = read_value(r, &first, 0)))
        return -1;
    if (next(r, &document_end) < 0 || next(r, &end) < 0)
        return -1;
    return end.type == YAML_STREAM_END_EVENT ? 0 : refuse(r, &end.start_mark, "there is a second document");
}

int yaml_json_parse(const char *text, size_t len, json_t **ret_value, struct err *err)
{
    struct err own = ERR_INIT;
    struct reader r = {.err = err ? err : &own};
    json_t *value = NULL;
    int rc;

    if (!yaml_parser_initialize(&r.parser))
        return err_set(err, ERR_NOMEM, "no memory for YAML");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    rc = read_document(&r, &value);
    yaml_parser_delete(&r.parser);
    if (rc < 0) {
        json_decref(value);
        return r.err->code ? -1 : err_set(r.err, ERR_NOMEM, "no memory for YAML");
    }
    *ret_value = value;
    return 0;
}

/* ---- writing ---- */

static int emit(yaml_emitter_t *emitter, yaml_event_t *event, int made)
{
    return made && yaml_emitter_emit(emitter, event) ? 0 : -1;
}

static int write_text(yaml_emitter_t *emitter, const char *s, bool is_text)
{
    json_t *other = is_text ? plain_value(s) : NULL;
    bool plain = !other;
    yaml_event_t event;

    json_decref(other);
    return emit(emitter, &event,
        yaml_scalar_event_initialize(&event, NULL, NULL, (const unsigned char *)s, (int)strlen(s), plain, 1,
            plain ? YAML_PLAIN_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE));
}

static int write_value(yaml_emitter_t *emitter, const json_t *v);

static int write_map(yaml_emitter_t *emitter, const json_t *map)
{
    yaml_event_t event;
    const char *key;
    json_t *value;

    if (emit(emitter, &event, yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE)) < 0)
        return -1;
    json_object_foreach(
        (json_t *)map, key, value) if (write_text(emitter, key, true) < 0 || write_value(emitter, value) < 0) return -1;
    return emit(emitter, &event, yaml_mapping_end_event_initialize(&event));
}

/* Names stand on one line, objects below each other. */
static int write_list(yaml_emitter_t *emitter, const json_t *list)
{
    bool flat = true;
    yaml_event_t event;
    json_t *value;
    size_t i;

    json_array_foreach(list, i, value) flat = flat && !json_is_object(value) && !json_is_array(value);
    if (emit(emitter, &event,
            yaml_sequence_start_event_initialize(
                &event, NULL, NULL, 1, flat ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE)) < 0)
        return -1;
    json_array_foreach(list, i, value) if (write_value(emitter, value) < 0) return -1;
    return emit(emitter, &event, yaml_sequence_end_event_initialize(&event));
}

static int write_value(yaml_emitter_t *emitter, const json_t *v)
{
    if (json_is_object(v))
        return write_map(emitter, v);
    if (json_is_array(v))
        return write_list(emitter, v);
    if (json_is_string(v))
        return write_text(emitter, json_string_value(v), true);
    AUTO_FREE char *text = json_dumps(v, JSON_ENCODE_ANY);

    return text ? write_text(emitter, text, false) : -1;
}

static int write_document(yaml_emitter_t *emitter, const json_t *value)
{
    yaml_event_t event;

    return emit(emitter, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) < 0 ||
                   emit(emitter, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1)) < 0 ||
                   write_value(emitter, value) < 0 ||
                   emit(emitter, &event, yaml_document_end_event_initialize(&event, 1)) < 0 ||
                   emit(emitter, &event, yaml_stream_end_event_initialize(&event)) < 0 || !yaml_emitter_flush(emitter)
               ? -1
               : 0;
}

int yaml_json_write(const json_t *value, FILE *out, struct err *err)
{
    yaml_emitter_t emitter;
    int rc;

    if (!yaml_emitter_initialize(&emitter))
        return err_set(err, ERR_NOMEM, "no memory for YAML");
    yaml_emitter_set_output_file(&emitter, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, 120);
    rc = write_document(&emitter, value);
    yaml_emitter_delete(&emitter);
    return rc < 0 ? err_set(err, ERR_IO, "writing YAML failed") : 0;
}
