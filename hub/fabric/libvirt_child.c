/* SPDX-License-Identifier: Apache-2.0
 *
 * PROGRAM libvirt-call VERB PARENT, with {"config", "spec", "replica", "graceful", "open_seconds", "call_seconds", "picture_bytes"} on standard input. It
 * answers {"answer": {...}} or {"error": {"code", "text", "correction"}}, and a picture behind the newline after it. The program is /proc/self/exe, which is
 * the same one also when another version was installed in its place.
 */
#include "hub/fabric/libvirt_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/libvirt_host.h"
#include "hub/fabric/program.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define WORD "libvirt-call"
#define TELL_MAX (1u << 20)              /* a spec with all its disks */
#define ANSWER_MAX (512 * 1024)          /* a replica with the end of its serial output, each byte escaped */
#define WHOLE_USEC (3600 * USEC_PER_SEC) /* of a process besides its boot check: whatever stops it from ending itself */

const struct libvirt_limits libvirt_limits_default = {.open_sec = 30, .call_sec = 600};

static bool may_start; /* main has asked whether it is such a process */

/* ---- in the hub ---- */

static char *input_of(const struct libvirt_ask *ask)
{
    const struct compute_call *call = ask->call;
    json_t *input = json_pack("{s:O, s:O, s:O?, s:b, s:i, s:i, s:I}", "config", call->config, "spec", call->spec,
        "replica", call->replica, "graceful", (int)call->graceful, "open_seconds", (int)ask->limits.open_sec,
        "call_seconds", (int)ask->limits.call_sec, "picture_bytes",
        (json_int_t)(ask->picture ? ask->picture->max - ask->picture->len : 0));
    char *text = input ? json_dumps(input, JSON_COMPACT) : NULL;

    json_decref(input);
    return text;
}

static int take_error(const json_t *error, struct err *err)
{
    err_set(err, err_code_from_name(compute_text(error, "code", "")), "%s", compute_text(error, "text", ""));
    return err_hint(err, "%s", compute_text(error, "correction", ""));
}

static int take_output(const struct libvirt_ask *ask, const struct buf *output, struct err *err)
{
    json_error_t at = {0};
    json_t *said = output->len ? json_loadb((const char *)output->data, output->len,
                                     JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &at)
                               : NULL;
    json_t *error = json_object_get(said, "error"), *answer = json_object_get(said, "answer");
    size_t begin = (size_t)at.position + 1; /* behind the newline */
    int rc = 0;

    if (error)
        rc = take_error(error, err);
    else if (!json_is_object(answer))
        rc = err_set(err, ERR_INTERNAL, "what was to ask the libvirt host ended without an answer");
    else if (ask->picture && output->len > begin)
        rc = buf_append(ask->picture, output->data + begin, output->len - begin, err);
    if (rc == 0 && ask->answer)
        *ask->answer = json_incref(answer);
    json_decref(said);
    return rc;
}

static uint64_t limit_of(const struct libvirt_ask *ask)
{
    if (ask->call->limit_usec)
        return ask->call->limit_usec;
    return WHOLE_USEC + boot_check_timeout_usec(json_object_get(ask->call->spec, "boot_check"));
}

int libvirt_child_ask(const struct libvirt_ask *ask, struct err *err)
{
    AUTO_BUF struct buf output = BUF_INIT(ANSWER_MAX + (ask->picture ? ask->picture->max : 0));
    AUTO_FREE char *input = input_of(ask);
    char parent[16];
    const char *const argv[] = {"/proc/self/exe", WORD, ask->verb, parent, NULL};
    const struct program_run run = {.who = "what asks the libvirt host",
        .argv = argv,
        .input = input,
        .limit_usec = limit_of(ask),
        .cancelled = ask->call->cancelled,
        .output = &output};

    (void)snprintf(parent, sizeof(parent), "%d", (int)getpid());
    if (!may_start)
        return err_set(err, ERR_INTERNAL, "this program does not ask libvirt hosts");
    if (!input)
        return err_set(err, ERR_NOMEM, "no memory for a libvirt host");
    if (program_run(&run, err) == 0)
        return take_output(ask, &output, err);
    if (err->code ==
        ERR_REFUSED) /* it ended by a signal; had it worked, it would have said what went wrong, and ended well */
        err->code = ERR_UNAVAILABLE;
    if (err->code != ERR_TIMEOUT)
        return -1;
    err_set(err, ERR_UNAVAILABLE, "the libvirt host did not answer within %llu s",
        (unsigned long long)(run.limit_usec / USEC_PER_SEC));
    return err_hint(err, "Check that libvirtd on the target's host runs and answers, then try again.");
}

/* ---- in the process ---- */

/* What the signal writes: it may come while anything is half done. */
static char late[400];
static volatile sig_atomic_t late_bytes;

static void say_late(int number)
{
    (void)number;
    ssize_t n = write(STDOUT_FILENO, late, (size_t)late_bytes);

    _exit(n > 0 ? 0 : 1);
}

void libvirt_child_within(unsigned seconds, const char *what)
{
    (void)alarm(0);
    if (seconds == 0)
        return;
    late_bytes = snprintf(late, sizeof(late),
        "{\"error\":{\"code\":\"%s\",\"text\":\"the libvirt host does not answer: %s took more than %u "
        "s\",\"correction\":"
        "\"Check that libvirtd on the target's host runs and answers, then try again.\"}}\n",
        err_code_name(ERR_UNAVAILABLE), what, seconds);
    (void)alarm(seconds);
}

/* Dies with the hub's thread that waits for it, and not of a connection that breaks while it is written to (libvirt leaves that to its programs); and
 * asks nobody for a password on the hub's terminal (ssh), which would stop it there. */
static void become(const char *parent)
{
    int terminal AUTO_CLOSE = -1;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strtol(parent, NULL, 10) != (long)getppid())
        _exit(1);
    (void)prctl(PR_SET_NAME, WORD);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGALRM, say_late);
    terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal >= 0)
        (void)ioctl(terminal, TIOCNOTTY);
}

static json_t *read_input(struct err *err)
{
    AUTO_BUF struct buf text = BUF_INIT(TELL_MAX);
    char data[16384];
    json_t *input;
    ssize_t n;

    while ((n = read(STDIN_FILENO, data, sizeof(data))) > 0)
        if (buf_append(&text, data, (size_t)n, err) < 0)
            return NULL;
    input = n == 0 && text.len ? json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(input)) {
        json_decref(input);
        (void)err_set(err, ERR_INTERNAL, "what is to be asked of the libvirt host cannot be read");
        return NULL;
    }
    return input;
}

static unsigned seconds_of(const json_t *input, const char *key)
{
    return (unsigned)json_integer_value(json_object_get(input, key));
}

static int work(const char *verb, json_t *answer, struct buf *picture, struct err *err)
{
    static const atomic_bool cancelled = false; /* who is cancelled is ended */
    json_t *input = read_input(err);
    int rc = -1;

    if (input) {
        const struct compute_call call = {.config = json_object_get(input, "config"),
            .spec = json_object_get(input, "spec"),
            .replica = json_object_get(input, "replica"),
            .graceful = json_is_true(json_object_get(input, "graceful")),
            .cancelled = &cancelled};
        const struct libvirt_limits limits = {seconds_of(input, "open_seconds"), seconds_of(input, "call_seconds")};

        picture->max = (size_t)json_integer_value(json_object_get(input, "picture_bytes"));
        rc = libvirt_host_work(verb, &call, &limits, answer, picture, err);
        libvirt_child_within(0, "");
    }
    json_decref(input);
    return rc;
}

static int put(const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(STDOUT_FILENO, (const char *)data + done, size - done);

        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int tell(int rc, json_t *answer, const struct buf *picture, const struct err *err)
{
    json_t *said = rc == 0 ? json_pack("{s:O}", "answer", answer)
                           : json_pack("{s:{s:s, s:s, s:s}}", "error", "code", err_code_name(err->code), "text",
                                 err->text, "correction", err->correction);
    AUTO_FREE char *text = said ? json_dumps(said, JSON_COMPACT) : NULL;

    json_decref(said);
    if (!text || put(text, strlen(text)) < 0 || put("\n", 1) < 0)
        return 1;
    return rc < 0 || put(picture->data, picture->len) == 0 ? 0 : 1;
}

int libvirt_child_main(int argc, char **argv)
{
    AUTO_BUF struct buf picture = BUF_INIT(0);
    struct err err = ERR_INIT;
    json_t *answer;
    int rc;

    may_start = true;
    if (argc != 4 || strcmp(argv[1], WORD) != 0)
        return -1;
    become(argv[3]);
    answer = json_object();
    rc = answer ? work(argv[2], answer, &picture, &err) : err_set(&err, ERR_NOMEM, "no memory for a libvirt host");
    /* Its event loop runs on in another thread: nothing is taken down around it. */
    _exit(tell(rc, answer, &picture, &err));
}
