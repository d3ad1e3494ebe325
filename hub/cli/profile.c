/* SPDX-License-Identifier: Apache-2.0
 *
 * The file is {"current": "NAME", "profiles": {"NAME": {"url": ..., "token": ..., "ca": ...}}}.
 */
#include "hub/cli/profile.h"

#include <string.h>

#include "transport/base/buf.h"
#include "transport/base/file.h"

#define CONFIG_MAX (1024u * 1024u)
#define SECRET_MAX 4096u

static char *config_dir(void)
{
    const char *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");

    if (xdg && *xdg)
        return mem_printf("%s/leeward", xdg);
    return mem_printf("%s/.config/leeward", home && *home ? home : "/root");
}

/* The parsed file, or an empty object when it is not there. */
static int read_config(json_t **ret_config, struct err *err)
{
    AUTO_FREE char *dir = config_dir();
    AUTO_FREE char *path = dir ? mem_printf("%s/config.json", dir) : NULL;
    AUTO_BUF struct buf text = BUF_INIT(CONFIG_MAX);
    struct err why = ERR_INIT;

    if (!path)
        return err_set(err, ERR_NOMEM, "no memory for the profile");
    if (file_read(path, &text, &why) < 0) {
        if (why.code != ERR_NOT_FOUND) {
            err_copy(err, &why);
            return -1;
        }
        *ret_config = json_object();
        return 0;
    }
    *ret_config = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(*ret_config))
        return 0;
    json_decref(*ret_config);
    (void)err_set(err, ERR_CORRUPT, "%s is not a JSON object", path);
    return err_hint(err, "Remove the file and run `leeward login` again.");
}

int profile_read_secret(const char *path, char **ret_text, struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(SECRET_MAX);

    if (file_read(path, &text, err) < 0 || !buf_str(&text, err))
        return -1;
    *ret_text = mem_strndup((const char *)text.data, strcspn((const char *)text.data, "\r\n"));
    return *ret_text ? 0 : err_set(err, ERR_NOMEM, "no memory for a token");
}

static const char *first_of(const char *a, const char *b, const json_t *profile, const char *member)
{
    if (a && *a)
        return a;
    if (b && *b)
        return b;
    return json_string_value(json_object_get(profile, member));
}

static const json_t *find_profile(const struct command_line *line, const json_t *config)
{
    const char *name = first_of(command_option(line, "profile"), getenv("LEEWARD_PROFILE"), config, "current");

    return name ? json_object_get(json_object_get(config, "profiles"), name) : NULL;
}

static int no_profile(const char *name, struct err *err)
{
    (void)err_set(err, ERR_NOT_FOUND, "there is no profile %s", name);
    return err_hint(err, "`leeward profile list` shows them; `leeward login URL --profile %s` makes it.", name);
}

/* A profile that was asked for by name must be there. */
static int check_profile(const struct command_line *line, const json_t *profile, struct err *err)
{
    const char *asked = first_of(command_option(line, "profile"), getenv("LEEWARD_PROFILE"), NULL, "");

    return asked && !profile ? no_profile(asked, err) : 0;
}

int profile_client(const struct command_line *line, struct client **ret_client, struct err *err)
{
    json_t *config = NULL;
    const json_t *profile;
    AUTO_FREE char *token = NULL;
    const char *token_file = command_option(line, "token-file");
    struct client_settings settings;
    int rc;

    if (read_config(&config, err) < 0 || (token_file && profile_read_secret(token_file, &token, err) < 0)) {
        json_decref(config);
        return -1;
    }
    profile = find_profile(line, config);
    if (check_profile(line, profile, err) < 0) {
        json_decref(config);
        return -1;
    }
    settings = (struct client_settings){
        .url = first_of(command_option(line, "url"), getenv("LEEWARD_URL"), profile, "url"),
        .token = first_of(token, getenv("LEEWARD_TOKEN"), profile, "token"),
        .ca = first_of(command_option(line, "ca"), getenv("LEEWARD_CA"), profile, "ca"),
    };
    if (!settings.url) {
        (void)err_set(err, ERR_INVALID, "nobody said where the hub is");
        rc = err_hint(
            err, "Run `leeward login URL`, or source the cli.env that `leeward up` wrote into its data folder.");
    } else {
        rc = client_new(&settings, ret_client, err);
    }
    json_decref(config);
    return rc;
}

static int write_config(const json_t *config, struct err *err)
{
    AUTO_FREE char *dir = config_dir();
    AUTO_FREE char *path = dir ? mem_printf("%s/config.json", dir) : NULL;
    AUTO_FREE char *text = json_dumps(config, JSON_INDENT(2));

    if (!path || !text)
        return err_set(err, ERR_NOMEM, "no memory for the profiles");
    if (file_make_dirs(dir, 0700, err) < 0)
        return -1;
    return file_replace(path, text, strlen(text), 0600, err);
}

int profile_save(const char *name, const struct client_settings *settings, struct err *err)
{
    json_t *config, *profiles, *profile;
    int rc;

    if (read_config(&config, err) < 0)
        return -1;
    profiles = json_object_get(config, "profiles");
    if (!json_is_object(profiles)) {
        json_object_set_new(config, "profiles", json_object());
        profiles = json_object_get(config, "profiles");
    }
    profile = json_pack("{s:s, s:s?, s:s?}", "url", settings->url, "token", settings->token, "ca", settings->ca);
    json_object_set_new(profiles, name, profile);
    json_object_set_new(config, "current", json_string(name));
    rc = write_config(config, err);
    json_decref(config);
    return rc;
}

int profile_list(json_t **ret_items, struct err *err)
{
    const char *name, *current;
    json_t *config, *profile;

    if (read_config(&config, err) < 0)
        return -1;
    current = json_string_value(json_object_get(config, "current"));
    *ret_items = json_array();
    json_object_foreach(json_object_get(config, "profiles"), name, profile) json_array_append_new(
        *ret_items, json_pack("{s:s, s:O?, s:O?, s:b}", "name", name, "url", json_object_get(profile, "url"), "ca",
                        json_object_get(profile, "ca"), "current", current && strcmp(current, name) == 0));
    json_decref(config);
    return 0;
}

int profile_change(const char *name, bool remove, struct err *err)
{
    json_t *config, *profiles;
    const char *current;
    int rc;

    if (read_config(&config, err) < 0)
        return -1;
    profiles = json_object_get(config, "profiles");
    current = json_string_value(json_object_get(config, "current"));
    if (!json_object_get(profiles, name)) {
        rc = no_profile(name, err);
    } else {
        if (!remove)
            json_object_set_new(config, "current", json_string(name));
        else if (current && strcmp(current, name) == 0)
            json_object_del(config, "current");
        if (remove)
            json_object_del(profiles, name);
        rc = write_config(config, err);
    }
    json_decref(config);
    return rc;
}
