/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine that does fix-ups, seen from the host: what it is started with, that one at a time changes a branch, that it does not outlive its hub, and
 * what becomes of one that goes wrong. In qemu's place there is a script that says what it was given; tests/e2e/vm has the real one.
 */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/fabric/fabric_task.h"
#include "hub/fabric/fixup_machine.h"
#include "hub/fabric/fixup_vm.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/mem.h"

#define DEADLINE_USEC (120 * USEC_PER_SEC)

struct host {
    char folder[64], emulator[96], socket[96];
    int listener;
    atomic_bool cancelled;
    json_t *config, *spec;
    struct compute_call call;
};

static void write_text(const char *path, const char *text, mode_t mode)
{
    struct err err = ERR_INIT;

    if (file_replace(path, text, strlen(text), mode, &err) < 0)
        fail_msg("%s", err.text);
}

/* What qemu is, for the test: a shell script. $go is a file in the host's folder, $at says that the script is at work. */
static void emulate(struct host *h, const char *script)
{
    AUTO_FREE char *text = mem_printf("#!/bin/sh\nat=%s/at-work go=%s/go\nuntil_told() { echo $$ >$at; until [ -e $go "
                                      "]; do sleep 0.05; done; }\n%s\n",
        h->folder, h->folder, script);

    write_text(h->emulator, text, 0755);
}

static void listen_at(struct host *h)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_FREE char *pid = mem_printf("%s.pid", h->socket);

    h->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, h->socket);
    assert_int_equal(bind(h->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(h->listener, 16), 0);
    write_text(pid, "1\n", 0644);
}

static int setup(void **state)
{
    struct host *h = mem_new(struct host);
    AUTO_FREE char *kernel = NULL;
    AUTO_FREE char *initrd = NULL;

    snprintf(h->folder, sizeof(h->folder), "/tmp/leeward-vm-XXXXXX");
    if (!mkdtemp(h->folder) || chmod(h->folder, 0777) < 0)
        return -1;
    snprintf(h->emulator, sizeof(h->emulator), "%s/qemu", h->folder);
    snprintf(h->socket, sizeof(h->socket), "%s/branch.sock", h->folder);
    kernel = mem_printf("%s/vmlinuz", h->folder);
    initrd = mem_printf("%s/initrd", h->folder);
    write_text(kernel, "kernel", 0644);
    write_text(initrd, "initrd", 0644);
    listen_at(h);
    fixup_vm_configure(h->folder, true, 1);
    h->config = json_pack("{s:s}", "emulator", h->emulator);
    h->spec = json_pack("{s:s, s:{s:s, s:s}, s:{}, s:[{s:i, s:o, s:b}]}", "failover_id", "f-1", "machine", "id", "m-1",
        "name", "web1", "fixups", "disks", "number", 0, "uri", json_sprintf("nbd+unix:///0?socket=%s", h->socket),
        "is_root", 1);
    h->call = (struct compute_call){.config = h->config, .spec = h->spec, .cancelled = &h->cancelled};
    *state = h;
    return h->config && h->spec ? 0 : -1;
}

static int teardown(void **state)
{
    struct host *h = *state;

    (void)close(h->listener);
    json_decref(h->config);
    json_decref(h->spec);
    (void)file_remove_tree(h->folder, NULL);
    free(h);
    return 0;
}

static char *path_in(const struct host *h, const char *name)
{
    return mem_printf("%s/%s", h->folder, name);
}

static void wait_for_file(const char *path)
{
    uint64_t end = clock_mono_usec() + DEADLINE_USEC;

    while (access(path, F_OK) < 0) {
        if (clock_mono_usec() > end)
            fail_msg("%s did not appear", path);
        (void)poll(NULL, 0, 10);
    }
}

/* The report's one warning: what the script said of itself. */
static void run_well(struct host *h, enum fixup_work work, char said[200])
{
    json_t *report = NULL;
    struct err err = ERR_INIT;

    if (fixup_vm_run(&h->call, work, &report, &err) < 0)
        fail_msg("%s", err.text);
    snprintf(said, 200, "%s", json_string_value(json_array_get(json_object_get(report, "warnings"), 0)));
    json_decref(report);
}

static void run_badly(struct host *h, enum fixup_work work, enum err_code code, const char *part)
{
    json_t *report = NULL;
    struct err err = ERR_INIT;

    if (fixup_vm_run(&h->call, work, &report, &err) == 0)
        fail_msg("it went well");
    if (err.code != code || !strstr(err.text, part))
        fail_msg("not %s: %s", part, err.text);
}

static void it_has_limits_and_no_rights_of_the_hubs(void **state)
{
    struct host *h = *state;
    char said[200];

    emulate(h, "printf '%s' \"{\\\"changes\\\":[],\\\"warnings\\\":[\\\"uid $(id -u) most $(ulimit -f) core $(ulimit "
               "-c)\\\"],\\\"applied\\\":true}\"");
    run_well(h, FIXUP_CHANGE, said);
    if (geteuid() == 0)
        assert_null(strstr(said, "uid 0 "));
    assert_null(strstr(said, "unlimited"));
    assert_non_null(strstr(said, "core 0"));
}

/* The words that it gets, and that what they name is there: the branch's disks are connected sockets. */
static void it_gets_the_disks_as_descriptors(void **state)
{
    struct host *h = *state;
    char said[200];

    emulate(h, "words=\" $* \"\n"
               "case $words in *snapshot=off*werror=report*) ;; *) echo \"no disk: $words\" >&2; exit 1 ;; esac\n"
               "fd=${words##*file.server.str=} fd=${fd%%,*}\n"
               "case $(readlink /proc/$$/fd/$fd) in socket:*) ;; *) echo \"$fd is no socket\" >&2; exit 1 ;; esac\n"
               "spec=${words##*file.filename=} spec=${spec%% *}\n"
               "grep -q '\"apply\":true' $spec || { echo no spec >&2; exit 1; }\n"
               "echo '{\"changes\":[],\"warnings\":[\"good\"],\"applied\":true}'");
    run_well(h, FIXUP_CHANGE, said);
    assert_string_equal(said, "good");
    emulate(h, "case \" $* \" in *snapshot=on*) ;; *) exit 1 ;; esac\n"
               "echo '{\"changes\":[],\"warnings\":[\"good\"],\"applied\":false}'");
    run_well(h, FIXUP_LIST, said);
    assert_string_equal(said, "good");
}

static void what_cannot_run_is_refused_before_anything_begins(void **state)
{
    struct host *h = *state;
    struct err err = ERR_INIT;

    emulate(h, "read word\n[ \"$word\" = quit ] || exit 1\ncase \" $* \" in *branch.sock*|*snapshot=*) exit 1 ;; esac");
    if (fixup_vm_check(&h->call, &err) < 0)
        fail_msg("%s", err.text);
    emulate(h, "echo 'failed to allocate memory for code: Operation not permitted' >&2\nexit 1");
    assert_int_equal(fixup_vm_check(&h->call, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "Operation not permitted"));
    assert_non_null(strstr(err.correction, "without fix-ups"));
    err_clear(&err);
    assert_int_equal(unlink(h->emulator), 0);
    assert_int_equal(fixup_vm_check(&h->call, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.correction, "qemu-system-x86"));
    err_clear(&err);
    AUTO_FREE char *initrd = path_in(h, "initrd");

    assert_int_equal(unlink(initrd), 0);
    assert_int_equal(fixup_vm_check(&h->call, &err), -1);
    assert_non_null(strstr(err.text, "there is no initrd"));
}

static void a_socket_that_is_not_there_is_said_to_be(void **state)
{
    struct host *h = *state;

    emulate(h, "exit 0");
    (void)close(h->listener);
    run_badly(h, FIXUP_LIST, ERR_REFUSED, "branch.sock: Connection refused");
    assert_int_equal(unlink(h->socket), 0);
    run_badly(h, FIXUP_LIST, ERR_REFUSED, "branch.sock: No such file");
    listen_at(h);
}

static void what_goes_wrong_is_said(void **state)
{
    struct host *h = *state;

    emulate(h, "head -c 5000000 /dev/zero");
    run_badly(h, FIXUP_CHANGE, ERR_TOO_LARGE, "the machine that does fix-ups prints");
    emulate(h, "kill -XFSZ $$");
    run_badly(h, FIXUP_LIST, ERR_TOO_LARGE, "a larger file than it may");
    emulate(h, "echo '{\"error\":{\"code\":\"not_found\",\"text\":\"no root\",\"correction\":\"\"}}'");
    run_badly(h, FIXUP_CHANGE, ERR_NOT_FOUND, "no root");
    emulate(h, "exit 0");
    run_badly(h, FIXUP_CHANGE, ERR_IO, "without a report");
    emulate(h, "echo '{\"changes\":[],\"warnings\":7}'");
    run_badly(h, FIXUP_CHANGE, ERR_IO, "without a report");
}

/* ---- one at a time ---- */

/* A hub of its own with a machine at work. */
static pid_t other_hub(struct host *h)
{
    AUTO_FREE char *at_work = path_in(h, "at-work");
    pid_t pid = fork();

    if (pid == 0) {
        json_t *report = NULL;

        _exit(fixup_vm_run(&h->call, FIXUP_CHANGE, &report, NULL) < 0);
    }
    assert_true(pid > 0);
    wait_for_file(at_work);
    return pid;
}

static void a_branch_is_changed_by_one_machine_at_a_time(void **state)
{
    struct host *h = *state;
    AUTO_FREE char *go = path_in(h, "go");
    const json_t *disks = json_object_get(h->spec, "disks");
    struct err err = ERR_INIT;
    char said[200];
    pid_t hub;
    int status;

    emulate(h, "until_told\necho '{\"changes\":[],\"warnings\":[\"good\"],\"applied\":true}'");
    hub = other_hub(h);
    run_badly(h, FIXUP_CHANGE, ERR_CONFLICT, "another machine");
    assert_int_equal(fixup_machine_check_idle(disks, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    write_text(go, "", 0644);
    assert_int_equal(waitpid(hub, &status, 0), hub);
    assert_int_equal(status, 0);
    assert_int_equal(fixup_machine_check_idle(disks, NULL), 0);
    run_well(h, FIXUP_CHANGE, said);
}

static void a_machine_does_not_outlive_its_hub(void **state)
{
    struct host *h = *state;
    const json_t *disks = json_object_get(h->spec, "disks");
    uint64_t end = clock_mono_usec() + DEADLINE_USEC;
    pid_t hub;

    /* No program of its own below it, which would hold the lock for a moment longer. */
    emulate(h, "echo $$ >$at\nread nothing <$at.fifo");
    AUTO_FREE char *fifo = path_in(h, "at-work.fifo");

    assert_int_equal(mkfifo(fifo, 0666), 0);
    assert_int_equal(chmod(fifo, 0666), 0);
    hub = other_hub(h);
    assert_int_equal(fixup_machine_check_idle(disks, NULL), -1);
    assert_int_equal(kill(hub, SIGKILL), 0);
    assert_int_equal(waitpid(hub, NULL, 0), hub);
    while (fixup_machine_check_idle(disks, NULL) < 0) {
        if (clock_mono_usec() > end)
            fail_msg("the machine of a killed hub still works on the branch");
        (void)poll(NULL, 0, 10);
    }
}

static void more_machines_than_there_may_be_wait(void **state)
{
    struct host *h = *state;
    AUTO_FREE char *go = path_in(h, "go");
    AUTO_FREE char *at_work = path_in(h, "at-work");
    struct fabric_ask first = {
        .key = "a/1", .verb = FABRIC_FIXUP, .adapter = "disk", .config = h->config, .spec = h->spec};
    struct fabric_ask second = first;
    uint64_t end = clock_mono_usec() + DEADLINE_USEC;
    struct err err = ERR_INIT;
    json_t *answer = NULL;
    int rc = 0;

    second.key = "b/1";
    emulate(h, "until_told\necho '{\"changes\":[],\"warnings\":[],\"applied\":true}'");
    assert_int_equal(fabric_task_others(&first), 0);
    assert_int_equal(fabric_task(&first, &answer, &err), 0);
    wait_for_file(at_work);
    assert_int_equal(fabric_task(&second, &answer, &err), 0);
    assert_int_equal(fabric_task_others(&second), 1);
    assert_int_equal(fabric_task_others(&first), 0); /* it is at work, and waits for nobody */
    write_text(go, "", 0644);
    for (int i = 0; i < 2; i++) {
        while ((rc = fabric_task(i ? &second : &first, &answer, &err)) == 0 && clock_mono_usec() < end)
            (void)poll(NULL, 0, 10);
        if (rc != 1)
            fail_msg("task %d: %s", i, err.text);
        json_decref(TAKE_PTR(answer));
    }
    assert_int_equal(fabric_task_others(&second), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(it_has_limits_and_no_rights_of_the_hubs),
        T(it_gets_the_disks_as_descriptors),
        T(what_cannot_run_is_refused_before_anything_begins),
        T(a_socket_that_is_not_there_is_said_to_be),
        T(what_goes_wrong_is_said),
        T(a_branch_is_changed_by_one_machine_at_a_time),
        T(a_machine_does_not_outlive_its_hub),
        T(more_machines_than_there_may_be_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
