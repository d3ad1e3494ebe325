/* SPDX-License-Identifier: Apache-2.0
 *
 * The command by itself: words become commands, values become text, tables become completion and docs/cli.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/cli/client.h"
#include "hub/cli/command.h"
#include "hub/cli/output.h"
#include "hub/cli/profile.h"
#include "transport/base/buf.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

/* Parses the words of one line, which are kept in static memory. */
static int parse(const char *text, struct command_line *line, struct err *err)
{
    static char copy[512];
    static char *argv[32];
    char *save = NULL;
    int argc = 0;
    FILE *out = fopen("/dev/null", "w");
    int rc;

    (void)snprintf(copy, sizeof(copy), "leeward %s", text);
    for (char *word = strtok_r(copy, " ", &save); word && argc < 31; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    argv[argc] = NULL;
    err_clear(err);
    rc = command_parse(argc, argv, line, out, err);
    (void)fclose(out);
    return rc;
}

static void words_find_their_command(void **state)
{
    struct command_line line;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(parse("machine protect web -o json --disk a --disk=b --policy gold /dev/vdb", &line, &err), 0);
    assert_string_equal(line.command->words, "machine protect");
    assert_int_equal(line.argument_count, 2);
    assert_string_equal(line.arguments[1], "/dev/vdb");
    assert_int_equal(line.output, OUTPUT_JSON);
    assert_string_equal(command_option_nth(&line, "disk", 0), "a");
    assert_string_equal(command_option_nth(&line, "disk", 1), "b");
    assert_null(command_option_nth(&line, "disk", 2));
    assert_string_equal(command_option(&line, "policy"), "gold");
    assert_null(command_option(&line, "vault"));
}

static void options_may_stand_anywhere_and_end_with_two_dashes(void **state)
{
    struct command_line line;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(parse("point open -w web@7 --disk 1", &line, &err), 0);
    assert_string_equal(command_option(&line, "write"), "");
    assert_string_equal(line.arguments[0], "web@7");
    assert_int_equal(parse("machine show -ojson -- --odd", &line, &err), 0);
    assert_string_equal(line.arguments[0], "--odd");
    assert_int_equal(line.output, OUTPUT_JSON);
}

static void options_of_every_command_may_stand_before_it(void **state)
{
    struct command_line line;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(parse("-o json --profile=east machine show --ca x web", &line, &err), 0);
    assert_string_equal(line.command->words, "machine show");
    assert_string_equal(line.arguments[0], "web");
    assert_string_equal(command_option(&line, "profile"), "east");
    assert_string_equal(command_option(&line, "ca"), "x");
    assert_int_equal(line.output, OUTPUT_JSON);
    assert_int_equal(parse("-ojson --dry-run point list web", &line, &err), 0);
    assert_int_equal(line.output, OUTPUT_JSON);
    assert_int_equal(parse("--url", &line, &err), -1);
    assert_int_equal(parse("--app point create web", &line, &err), -1);
    assert_non_null(strstr(err.text, "--app"));
    assert_int_equal(parse("--version", &line, &err), 0);
    assert_string_equal(line.command->words, "version");
    assert_int_equal(parse("-o json -V", &line, &err), 0);
    assert_string_equal(line.command->words, "version");
}

static void a_group_is_suggested_by_its_beginning_or_its_letters(void **state)
{
    struct command_line line;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(parse("fail", &line, &err), -1);
    assert_non_null(strstr(err.correction, "`leeward failover`"));
    assert_int_equal(parse("machin", &line, &err), -1);
    assert_non_null(strstr(err.correction, "`leeward machine`"));
    assert_int_equal(parse("help fail", &line, &err), -1);
    assert_non_null(strstr(err.correction, "`leeward failover`"));
    assert_int_equal(parse("xylophone", &line, &err), -1);
    assert_null(strstr(err.correction, "mean"));
}

static void what_is_not_understood_is_a_usage_error_with_a_way_out(void **state)
{
    static const char *const lines[] = {"nonsense", "machine", "machine nonsense", "machine show", "machine show a b",
        "machine list --nonsense", "machine list -x", "machine list -o yaml", "machine list --state", "",
        "point open --write=yes a"};
    struct command_line line;
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        assert_int_equal(parse(lines[i], &line, &err), -1);
        assert_int_equal(command_exit_code(&err), EXIT_USAGE);
        assert_true(strstr(err.correction, "--help") != NULL);
    }
}

static void help_is_no_error(void **state)
{
    static const char *const lines[] = {"--help", "-h", "machine --help", "machine protect --help", "up -h",
        "help machine", "help machine show", "-o json --help", "help x"};
    struct command_line line;
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i + 1 < ARRAY_LEN(lines); i++)
        assert_int_equal(parse(lines[i], &line, &err), 1);
}

static void numbers_and_durations_are_checked(void **state)
{
    struct command_line line;
    struct err err = ERR_INIT;
    uint64_t n = 0;

    (void)state;
    assert_int_equal(parse("point list web --limit 20", &line, &err), 0);
    assert_int_equal(command_option_number(&line, "limit", 1, 100, &n, &err), 1);
    assert_int_equal(n, 20);
    assert_int_equal(command_option_number(&line, "limit", 1, 10, &n, &err), -1);
    assert_int_equal(parse("point list web --limit -5", &line, &err), 0);
    assert_int_equal(command_option_number(&line, "limit", 1, 10, &n, &err), -1);
    assert_int_equal(parse("node set n --throttle 10M --machine-throttle 65536 --work-throttle 0", &line, &err), 0);
    assert_int_equal(command_option_bytes(&line, "throttle", 1ULL << 53, &n, &err), 1);
    assert_int_equal(n, 10 << 20);
    assert_int_equal(command_option_bytes(&line, "throttle", 1 << 20, &n, &err), -1);
    assert_int_equal(command_option_bytes(&line, "machine-throttle", 1ULL << 53, &n, &err), 1);
    assert_int_equal(n, 65536);
    assert_int_equal(command_option_bytes(&line, "work-throttle", 1ULL << 53, &n, &err), 1);
    assert_int_equal(n, 0);
    assert_int_equal(command_option_bytes(&line, "name", 1ULL << 53, &n, &err), 0);
    assert_int_equal(parse("node set n --throttle 10Mbit", &line, &err), 0);
    assert_int_equal(command_option_bytes(&line, "throttle", 1ULL << 53, &n, &err), -1);
    assert_int_equal(parse("job wait x --timeout 90s", &line, &err), 0);
    assert_int_equal(command_option_usec(&line, "timeout", &n, &err), 1);
    assert_int_equal(n, 90000000);
    assert_int_equal(parse("job wait x --timeout soon", &line, &err), 0);
    assert_int_equal(command_option_usec(&line, "timeout", &n, &err), -1);
}

static void a_negative_number_is_an_argument(void **state)
{
    struct command_line line;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(parse("settings set alert_full_forecast_days -1", &line, &err), 0);
    assert_string_equal(line.arguments[1], "-1");
    assert_int_equal(parse("settings set -x -1", &line, &err), -1);
    assert_non_null(strstr(err.text, "-x"));
}

static void exit_codes_tell_the_kinds_apart(void **state)
{
    static const struct {
        enum err_code code;
        enum exit_code exit;
    } rows[] = {{ERR_NONE, EXIT_DONE}, {ERR_IO, EXIT_FAILED}, {ERR_UNAVAILABLE, EXIT_FAILED}, {ERR_INVALID, EXIT_USAGE},
        {ERR_NOT_FOUND, EXIT_NOT_FOUND}, {ERR_REFUSED, EXIT_REFUSED}, {ERR_CONFLICT, EXIT_REFUSED},
        {ERR_DENIED, EXIT_REFUSED}, {ERR_UNAUTHENTICATED, EXIT_REFUSED}, {ERR_CANCELLED, EXIT_FAILED}};
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        err.code = rows[i].code;
        assert_int_equal(command_exit_code(&err), rows[i].exit);
    }
}

/* ---- output ---- */

static const char *rendered(const char *json, enum column_form form)
{
    static char text[64];
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);

    output_value(value, form, text, sizeof(text));
    json_decref(value);
    return text;
}

static void values_are_shown_in_the_units_of_people(void **state)
{
    (void)state;
    assert_string_equal(rendered("0", COLUMN_BYTES), "0 B");
    assert_string_equal(rendered("1536", COLUMN_BYTES), "1.5 KiB");
    assert_string_equal(rendered("1099511627776", COLUMN_BYTES), "1.0 TiB");
    assert_string_equal(rendered("0.25", COLUMN_SECONDS), "250 ms");
    assert_string_equal(rendered("1.5", COLUMN_SECONDS), "1.5 s");
    assert_string_equal(rendered("86400", COLUMN_SECONDS), "24 h");
    assert_string_equal(rendered("604800", COLUMN_SECONDS), "7 d");
    assert_string_equal(rendered("\"2026-11-21T06:12:16.675410Z\"", COLUMN_TIME), "2026-11-21T06:12:16Z");
    assert_string_equal(rendered("null", COLUMN_TIME), "-");
    assert_string_equal(rendered("true", COLUMN_YES_NO), "yes");
    assert_string_equal(rendered("[\"a\",\"b\"]", COLUMN_LIST), "a, b");
}

static void control_characters_never_reach_the_terminal(void **state)
{
    (void)state;
    assert_string_equal(rendered("\"a\\u001b[31mred\\n\"", COLUMN_TEXT), "a [31mred ");
}

/* What an item looks like in that form; the caller frees. */
static char *printed_item(json_t *item, enum output_form form)
{
    struct command_line line = {.output = form};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    assert_non_null(item);
    (void)output_item(&line, item, out);
    (void)fclose(out);
    json_decref(item);
    return text;
}

static void a_line_is_cut_between_letters(void **state)
{
    char text[] = "f\xc3\xb6r \xe6\x9c\xba\xe5\x99\xa8"; /* "för" and two letters of three bytes */

    (void)state;
    output_cut(text, 6);
    assert_string_equal(text, "f\xc3\xb6r \xe6\x9c\xba\xe5\x99\xa8");
    output_cut(text, 5);
    assert_string_equal(text, "f\xc3\xb6r \xe6\x9c\xba");
    output_cut(text, 2);
    assert_string_equal(text, "f\xc3\xb6");
    output_cut(text, 0);
    assert_string_equal(text, "");
}

static void a_table_lines_up(void **state)
{
    static const struct column columns[] = {
        {"NAME", "name", COLUMN_TEXT, false}, {"SIZE", "size", COLUMN_BYTES, false}, {"ID", "id", COLUMN_TEXT, true}};
    json_t *items =
        json_loads("[{\"name\":\"a\",\"size\":1,\"id\":\"x\"},{\"name\":\"l\u00e5ng\",\"size\":2048}]", 0, NULL);
    struct command_line line = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    (void)output_items(&line, items, columns, ARRAY_LEN(columns), out);
    (void)fclose(out);
    assert_string_equal(text, "NAME     SIZE\na         1 B\nl\u00e5ng  2.0 KiB\n");
    free(text);
    json_decref(items);
}

static void an_item_lines_up_with_its_lists_as_tables(void **state)
{
    json_t *item = json_loads("{\"name\":\"v\",\"a_name_that_is_longer_than_most_others\":true,\"none\":[],"
                              "\"rows\":[{\"id\":\"x\",\"used_bytes\":\"2048\",\"more\":{\"a\":1}},"
                              "{\"id\":\"l\u00e5ng\",\"used_bytes\":\"1\"}]}",
        0, NULL);
    AUTO_FREE char *text = printed_item(item, OUTPUT_WIDE);

    (void)state;
    assert_string_equal(text, "name                                   v\n"
                              "a_name_that_is_longer_than_most_others yes\n"
                              "none                                   -\n"
                              "rows:\n"
                              "    id    used_bytes  more\n"
                              "    x        2.0 KiB  {\"a\":1}\n"
                              "    l\u00e5ng         1 B  -\n");
}

static void an_item_is_said_in_words_without_what_is_not_there(void **state)
{
    json_t *item =
        json_loads("{\"id\":\"x\",\"site_id\":null,\"policy_id\":\"p\",\"policy_name\":\"gold\",\"vault_id\":\"v\","
                   "\"cause\":\"\",\"etag\":\"7\",\"simulated\":false,\"throttle_bytes_per_second\":0,"
                   "\"sent_bytes_per_second\":2048,\"last_seen_at\":\"2026-01-02T03:04:05.5Z\",\"frozen\":false}",
            0, NULL);
    AUTO_FREE char *text = printed_item(item, OUTPUT_TABLE);

    (void)state;
    assert_string_equal(text, "id                   x\n"
                              "policy               gold\n"
                              "vault id             v\n" /* nothing here says its name */
                              "throttle             no limit\n"
                              "sent                 2.0 KiB/s\n"
                              "last seen            2026-01-02T03:04:05Z\n"
                              "frozen               no\n");
}

/* ---- client and profile ---- */

static void names_are_escaped_in_paths(void **state)
{
    AUTO_FREE char *path = client_path("/api/v1/machines/%s/points?tag=%s", "a/b c?", "x&y=\u00e5");

    (void)state;
    assert_string_equal(path, "/api/v1/machines/a%2Fb%20c%3F/points?tag=x%26y%3D%C3%A5");
}

static void a_token_never_travels_in_the_clear(void **state)
{
    const struct client_settings settings = {.url = "http://127.0.0.1:1", .token = "lwt_x"};
    struct client *client = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(client_new(&settings, &client, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void a_profile_is_kept_for_its_owner_alone(void **state)
{
    const struct client_settings settings = {.url = "https://hub:8443", .token = "lwt_x", .ca = "/etc/ca.pem"};
    char folder[] = "/tmp/leeward-cli-test.XXXXXX", path[128];
    struct client *client AUTO_OF(client) = NULL;
    struct command_line line;
    struct err err = ERR_INIT;
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)setenv("XDG_CONFIG_HOME", folder, 1);
    (void)unsetenv("LEEWARD_URL");
    assert_int_equal(parse("status", &line, &err), 0);
    assert_int_equal(profile_client(&line, &client, &err), -1);
    assert_true(strstr(err.correction, "leeward login") != NULL);
    assert_int_equal(profile_save("default", &settings, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/leeward/config.json", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    err_clear(&err);
    assert_int_equal(profile_client(&line, &client, &err), 0);
    assert_int_equal(file_remove_tree(folder, &err), 0);
}

static void a_hub_that_is_away_is_named_with_a_way_out(void **state)
{
    const struct client_settings settings = {.url = "https://127.0.0.1:1"};
    struct client *client AUTO_OF(client) = NULL;
    struct client_answer answer;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(client_new(&settings, &client, &err), 0);
    assert_int_equal(client_get(client, "/api/v1/status", &answer, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_true(strlen(err.correction) > 0);
    client_answer_done(&answer);
}

/* ---- what is made from the table ---- */

static void every_command_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < command_count; i++) {
        const struct command *c = &commands[i];

        assert_non_null(c->run);
        assert_true(strlen(c->summary) >= 8 && c->summary[strlen(c->summary) - 1] != '.');
        assert_true(c->arguments_min <= c->arguments_max);
        assert_true((c->arguments_max > 0) == (c->arguments[0] != 0));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(c->words, commands[k].words);
    }
}

static void completion_is_for_shells_that_are_known(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    assert_int_equal(command_print_completion("fish", out), -1);
    assert_int_equal(command_print_completion("bash", out), 0);
    (void)fclose(out);
    assert_true(strstr(text, "complete -F _leeward leeward") != NULL);
    assert_true(strstr(text, "leeward complete") != NULL);
    free(text);
}

static void what_is_near_is_suggested_and_what_is_far_is_not(void **state)
{
    static const struct {
        const char *given, *meant;
    } cases[] = {{"machine lst", "machine list"}, {"machien list", "machine list"}, {"stauts", "status"},
        {"xylophone", NULL}, {"", NULL}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *found = command_suggest(cases[i].given);

        if (cases[i].meant)
            assert_string_equal(found ? found : "", cases[i].meant);
        else
            assert_null(found);
    }
    assert_string_equal(command_suggest_option(NULL, "ouptut"), "output");
    assert_null(command_suggest_option(NULL, "xylophone"));
}

static void the_reference_in_docs_is_that_of_the_table(void **state)
{
    AUTO_BUF struct buf kept = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    command_print_markdown(out);
    (void)fclose(out);
    assert_int_equal(file_read(DOCS_DIR "/cli.md", &kept, &err), 0);
    if (kept.len != n || memcmp(kept.data, text, n) != 0)
        fail_msg("docs/cli.md is old: leeward help --markdown > docs/cli.md");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_find_their_command),
        cmocka_unit_test(options_may_stand_anywhere_and_end_with_two_dashes),
        cmocka_unit_test(what_is_not_understood_is_a_usage_error_with_a_way_out),
        cmocka_unit_test(help_is_no_error),
        cmocka_unit_test(numbers_and_durations_are_checked),
        cmocka_unit_test(options_of_every_command_may_stand_before_it),
        cmocka_unit_test(a_group_is_suggested_by_its_beginning_or_its_letters),
        cmocka_unit_test(a_negative_number_is_an_argument),
        cmocka_unit_test(exit_codes_tell_the_kinds_apart),
        cmocka_unit_test(values_are_shown_in_the_units_of_people),
        cmocka_unit_test(control_characters_never_reach_the_terminal),
        cmocka_unit_test(a_line_is_cut_between_letters),
        cmocka_unit_test(a_table_lines_up),
        cmocka_unit_test(an_item_lines_up_with_its_lists_as_tables),
        cmocka_unit_test(an_item_is_said_in_words_without_what_is_not_there),
        cmocka_unit_test(names_are_escaped_in_paths),
        cmocka_unit_test(a_token_never_travels_in_the_clear),
        cmocka_unit_test(a_profile_is_kept_for_its_owner_alone),
        cmocka_unit_test(a_hub_that_is_away_is_named_with_a_way_out),
        cmocka_unit_test(every_command_is_complete),
        cmocka_unit_test(completion_is_for_shells_that_are_known),
        cmocka_unit_test(what_is_near_is_suggested_and_what_is_far_is_not),
        cmocka_unit_test(the_reference_in_docs_is_that_of_the_table),
    };

    return cmocka_run_group_tests_name("hub_cli", tests, NULL, NULL);
}
