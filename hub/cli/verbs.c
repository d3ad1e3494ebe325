/* SPDX-License-Identifier: Apache-2.0
 *
 * What most commands do: read a list, show an item, change an item on the version that was read.
 */
#include "hub/cli/verbs.h"

#include <stdio.h>
#include <string.h>

#include "transport/base/mem.h"

#define PAGE 500u

int verb_read_list(const struct command_line *line, const char *path, size_t most, json_t **ret_items, struct err *err)
{
    json_t *items = json_array();
    AUTO_FREE char *cursor = NULL;

    do {
        size_t left = most ? most - json_array_size(items) : PAGE;
        AUTO_FREE char *tail = cursor ? client_path("&cursor=%s", cursor) : mem_strdup("");
        AUTO_FREE char *url = mem_printf(
            "%s%climit=%zu%s", path, strchr(path, '?') ? '&' : '?', left < PAGE ? left : PAGE, tail ? tail : "");
        AUTO_ANSWER struct client_answer answer = {0};
        const char *next;

        if (!url || !tail || client_get(line->client, url, &answer, err) < 0) {
            json_decref(items);
            return url ? -1 : err_set(err, ERR_NOMEM, "no memory for a request");
        }
        json_array_extend(items, json_object_get(answer.json, "items"));
        next = json_string_value(json_object_get(answer.json, "next"));
        free(cursor);
        cursor = next ? mem_strdup(next) : NULL;
    } while (cursor && (!most || json_array_size(items) < most));
    *ret_items = items;
    return cursor ? 1 : 0;
}

/* --sort takes the place of the order that the command would have. */
static char *sorted_path(const char *path, const char *sort)
{
    const char *at = sort ? strstr(path, "sort=") : NULL;
    size_t begin = at ? (size_t)(at - path) : strlen(path), end = at ? begin + strcspn(at, "&") : begin;
    AUTO_FREE char *tail = sort ? client_path("sort=%s", sort) : mem_strdup("");

    if (!tail)
        return NULL;
    return mem_printf("%.*s%s%s%s", (int)begin, path,
        !sort || at         ? ""
        : strchr(path, '?') ? "&"
                            : "?",
        tail, path + end);
}

char *verb_list_path(const struct command_line *line, const char *path, struct err *err)
{
    AUTO_FREE char *whole = path ? sorted_path(path, command_option(line, "sort")) : NULL;
    const char *filter, *value;

    for (unsigned i = 0; whole && (filter = command_option_nth(line, "filter", i)); i++) {
        AUTO_FREE char *before = TAKE_PTR(whole);
        AUTO_FREE char *name = mem_strndup(filter, strcspn(filter, "="));

        if (!(value = strchr(filter, '=')) || value == filter) {
            (void)err_set(err, ERR_INVALID, "--filter takes NAME=VALUE, not \"%s\"", filter);
            (void)err_hint(err, "For example --filter state=protected; docs/api.md says where the filters are listed.");
            return NULL;
        }
        AUTO_FREE char *tail = name ? client_path("%s=%s", name, value + 1) : NULL;

        whole = tail ? mem_printf("%s%c%s", before, strchr(before, '?') ? '&' : '?', tail) : NULL;
    }
    if (!whole)
        (void)err_set(err, ERR_NOMEM, "no memory for a request");
    return TAKE_PTR(whole);
}

int verb_print_list(const struct command_line *line, const char *path, const struct column *columns, size_t count,
    size_t most, struct err *err)
{
    AUTO_FREE char *chosen = verb_list_path(line, path, err);
    json_t *items;
    int more = chosen ? verb_read_list(line, chosen, most, &items, err) : -1, rc;

    if (more < 0)
        return -1;
    rc = output_items(line, items, columns, count, stdout);
    /* Beside the table: a program that reads it counts what it gets. */
    if (rc == 0 && more && most > 1 && line->output != OUTPUT_JSON)
        (void)fprintf(stderr, "leeward: there are more than these %zu\n", json_array_size(items));
    json_decref(items);
    return rc;
}

int verb_print_item(const struct command_line *line, const char *path, struct err *err)
{
    AUTO_ANSWER struct client_answer answer = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    return output_item(line, answer.json, stdout);
}

int verb_change_item(
    const struct command_line *line, const char *method, const char *path, const json_t *body, struct err *err)
{
    AUTO_ANSWER struct client_answer before = {0};
    AUTO_ANSWER struct client_answer after = {0};

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &before, err) < 0 ||
        client_call(line->client, method, path, body, before.etag, &after, err) < 0)
        return -1;
    return after.json ? output_item(line, after.json, stdout) : 0;
}

int verb_machine_id(const struct command_line *line, const char *machine, char ret_id[40], struct err *err)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s", machine);
    AUTO_ANSWER struct client_answer answer = {0};
    const char *id;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for a request");
    if (client_get(line->client, path, &answer, err) < 0)
        return -1;
    id = json_string_value(json_object_get(answer.json, "id"));
    (void)snprintf(ret_id, 40, "%s", id ? id : "");
    return 0;
}

int verb_add_id(const struct command_line *line, const char *option, const char *collection, const char *member,
    json_t *body, struct err *err)
{
    const char *name = command_option(line, option);
    AUTO_FREE char *tail = name ? client_path("%s", name) : NULL;
    AUTO_FREE char *path = tail ? mem_printf("/api/v1/%s/%s", collection, tail) : NULL;
    AUTO_ANSWER struct client_answer answer = {0};

    if (!name)
        return 0;
    if (!path || client_get(line->client, path, &answer, err) < 0)
        return -1;
    return json_object_set(body, member, json_object_get(answer.json, "id"));
}
