/* SPDX-License-Identifier: Apache-2.0
 *
 * A script of the administrator's: a file in the folder that the hub's configuration names, and in no other. It gets the context as JSON on standard
 * input and as LEEWARD_* in an otherwise empty environment, and runs without rights: as another user where the hub is root, without capabilities, and
 * without a way to get new ones (setpriv). A file that others could have written is refused.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub/fabric/action.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/program.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define OUTPUT_MAX (64 * 1024)
#define DETAIL_BYTES 200u
#define ARGUMENTS_MAX 16u
#define ARGUMENT_BYTES 1024u
#define SETPRIV "/usr/bin/setpriv"
#define ENV_COUNT 8u

static const char *scripts_dir = "", *scripts_user = "nobody";

void action_allow_scripts(const char *dir, const char *user)
{
    scripts_dir = dir;
    scripts_user = user;
}

/* ---- the step ---- */

static bool is_file_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    return name[0] && name[0] != '.' && strlen(name) <= 128 && strspn(name, allowed) == strlen(name);
}

static int script_check(const json_t *step, struct err *err)
{
    const json_t *arguments = json_object_get(step, "arguments");

    if (!is_file_name(compute_text(step, "script", ""))) {
        err_set(err, ERR_INVALID, "script: not the name of a file");
        return err_hint(err, "Letters, digits, dots, dashes and underscores: a file in the hub's scripts-dir.");
    }
    if (arguments && (!json_is_array(arguments) || json_array_size(arguments) > ARGUMENTS_MAX))
        return err_set(err, ERR_INVALID, "arguments: not a list of at most %u texts", ARGUMENTS_MAX);
    for (size_t i = 0; i < json_array_size(arguments); i++) {
        const json_t *v = json_array_get(arguments, i);

        if (!json_is_string(v) || json_string_length(v) > ARGUMENT_BYTES ||
            strlen(json_string_value(v)) != json_string_length(v))
            return err_set(
                err, ERR_INVALID, "arguments: the %zu. is not a text of at most %u bytes", i + 1, ARGUMENT_BYTES);
    }
    return 0;
}

/* ---- what may run ---- */

static int check_owner(const char *path, mode_t wanted, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return err_sys(err, errno, "%s", path);
    if ((st.st_mode & S_IFMT) == wanted && (st.st_uid == 0 || st.st_uid == geteuid()) && !(st.st_mode & 022))
        return 0;
    err_set(
        err, ERR_REFUSED, "%s is not a %s that only its owner can change", path, wanted == S_IFDIR ? "folder" : "file");
    return err_hint(err, "It must belong to root or the hub's user: chmod go-w %.120s", path);
}

static int find_script(const char *name, char **ret_path, struct err *err)
{
    if (!scripts_dir[0]) {
        err_set(err, ERR_REFUSED, "this hub runs no scripts");
        return err_hint(err, "Name the folder of those that plans may run in the hub's configuration: scripts-dir.");
    }
    *ret_path = mem_printf("%s/%s", scripts_dir, name);
    if (!*ret_path)
        return err_set(err, ERR_NOMEM, "no memory for a script");
    return check_owner(scripts_dir, S_IFDIR, err) < 0 ? -1 : check_owner(*ret_path, S_IFREG, err);
}

static int check_user(struct err *err)
{
    struct passwd pw, *found = NULL;
    char data[4096];

    if (geteuid() != 0)
        return 0;
    if (getpwnam_r(scripts_user, &pw, data, sizeof(data), &found) == 0 && found && pw.pw_uid != 0)
        return 0;
    err_set(err, ERR_REFUSED, "scripts cannot run as %.40s", scripts_user);
    return err_hint(err, "Name a user without rights in the hub's configuration: scripts-user.");
}

/* ---- running it ---- */

struct environment {
    char *texts[ENV_COUNT];
};

static int make_environment(const json_t *context, struct environment *e)
{
    const char *texts[][2] = {{"LEEWARD_PLAN", compute_text(context, "plan", "")},
        {"LEEWARD_RUN_ID", compute_text(context, "run_id", "")}, {"LEEWARD_STEP", compute_text(context, "step", "")},
        {"LEEWARD_KIND", compute_text(context, "kind", "")},
        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, {"HOME", "/"}, {"LANG", "C.UTF-8"}};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (!(e->texts[i] = mem_printf("%s=%s", texts[i][0], texts[i][1])))
            return -1;
    return 0;
}

static void environment_done(struct environment *e)
{
    for (size_t i = 0; i < ENV_COUNT; i++)
        free(e->texts[i]);
}

/* setpriv, its options, the script and its arguments. */
static void make_arguments(const json_t *step, const char *path, char *user, char *group, const char **argv)
{
    const json_t *arguments = json_object_get(step, "arguments");
    size_t n = 0;

    argv[n++] = SETPRIV;
    if (user[0]) {
        argv[n++] = user;
        argv[n++] = group;
        argv[n++] = "--clear-groups";
        argv[n++] = "--bounding-set=-all";
    }
    argv[n++] = "--inh-caps=-all";
    argv[n++] = "--no-new-privs";
    argv[n++] = "--";
    argv[n++] = path;
    for (size_t i = 0; i < json_array_size(arguments) && i < ARGUMENTS_MAX; i++)
        argv[n++] = json_string_value(json_array_get(arguments, i));
    argv[n] = NULL;
}

static int user_options(char user[64], char group[64], struct err *err)
{
    struct passwd pw, *found = NULL;
    char data[4096];

    user[0] = group[0] = '\0';
    if (check_user(err) < 0)
        return -1;
    if (geteuid() != 0)
        return 0;
    (void)getpwnam_r(scripts_user, &pw, data, sizeof(data), &found);
    if (!found)
        return err_set(err, ERR_REFUSED, "the user %.40s is gone", scripts_user);
    snprintf(user, 64, "--reuid=%u", (unsigned)pw.pw_uid);
    snprintf(group, 64, "--regid=%u", (unsigned)pw.pw_gid);
    return 0;
}

/* The end of what it printed, in one line. */
static json_t *answer_of(const struct buf *output)
{
    size_t from = output->len > DETAIL_BYTES ? output->len - DETAIL_BYTES : 0, n = 0;
    char text[DETAIL_BYTES + 1];

    for (size_t i = from; i < output->len; i++)
        text[n++] = output->data[i] >= 0x20 && output->data[i] < 0x7f ? (char)output->data[i] : ' ';
    while (n > 0 && text[n - 1] == ' ')
        n--;
    text[n] = '\0';
    return json_pack("{s:s}", "detail", text);
}

static int script_run(const struct action_call *call, json_t **ret_answer, struct err *err)
{
    AUTO_FREE char *path = NULL;
    AUTO_FREE char *input = json_dumps(call->context, JSON_COMPACT);
    __attribute__((cleanup(environment_done))) struct environment environment = {0};
    AUTO_BUF struct buf output = BUF_INIT(OUTPUT_MAX);
    const char *argv[10 + ARGUMENTS_MAX];
    char user[64], group[64];

    if (!input || make_environment(call->context, &environment) < 0)
        return err_set(err, ERR_NOMEM, "no memory for a script");
    if (script_check(call->step, err) < 0 || find_script(compute_text(call->step, "script", ""), &path, err) < 0 ||
        user_options(user, group, err) < 0)
        return -1;
    make_arguments(call->step, path, user, group, argv);
    const struct program_run run = {.who = "the script",
        .argv = argv,
        .envp = (const char *const *)environment.texts,
        .input = input,
        .limit_usec = (uint64_t)json_integer_value(json_object_get(call->context, "timeout_seconds")) * USEC_PER_SEC,
        .cancelled = call->cancelled,
        .output = &output};

    if (program_run(&run, err) < 0)
        return -1;
    *ret_answer = answer_of(&output);
    return *ret_answer ? 0 : err_set(err, ERR_NOMEM, "no memory for what a script said");
}

const struct action action_script = {.type = "script", .check = script_check, .run = script_run};
