/* SPDX-License-Identifier: Apache-2.0
 *
 * Enrolment against a hub in a child process: the files it leaves, crashes half-way, and everything that can be refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/proto/fakehub.h"
#include "transport/base/clock.h"
#include "transport/base/file.h"
#include "transport/base/log.h"
#include "transport/proto/enrol.h"

struct fixture {
    char dir[64];
    char token[160];
    struct fakehub hub;
    pid_t pid;
    struct enrol_conf conf;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    log_set_level(LOG_ERROR);
    snprintf(f->dir, sizeof(f->dir), "/tmp/leeward-enrol-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    fakehub_init(&f->hub, f->dir);
    fakehub_token(&f->hub, 'A', f->token);
    f->conf = (struct enrol_conf){.data_dir = f->dir,
        .hub = f->hub.address,
        .token = f->token,
        .role = "node",
        .name = "test",
        .wait_usec = 90 * USEC_PER_SEC};
    *state = f;
    return 0;
}

static void hub_stop(struct fixture *f)
{
    if (f->pid == 0)
        return;
    kill(f->pid, SIGKILL);
    waitpid(f->pid, NULL, 0);
    f->pid = 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hub_stop(f);
    fakehub_done(&f->hub);
    assert_int_equal(file_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static void expect_failure(struct fixture *f, enum err_code code, const char *words)
{
    struct enrol_identity identity = {0};
    struct err err = ERR_INIT;
    assert_int_equal(enrol_ensure(&f->conf, &identity, &err), -1);
    if (err.code != code || strstr(err.text, words) == NULL || err.correction[0] == '\0')
        fail_msg("%s: '%s' (%s); expected %s, '%s'", err_code_name(err.code), err.text, err.correction,
            err_code_name(code), words);
}

static void expect_success(struct fixture *f)
{
    struct enrol_identity identity = {0};
    struct err err = ERR_INIT;
    if (enrol_ensure(&f->conf, &identity, &err) < 0)
        fail_msg("%s (%s)", err.text, err.correction);
    assert_string_equal(identity.role, "node");
    assert_string_equal(identity.id_text, f->hub.id_text);
    enrol_identity_done(&identity);
}

static char *path_of(const struct fixture *f, const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/identity/%s", f->dir, name);
    return path;
}

static void a_token_gives_an_identity_that_stays(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    f->pid = fakehub_fork(&f->hub);
    expect_success(f);
    static const char *const names[] = {"key.pem", "cert.pem", "ca.pem"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(stat(path_of(f, names[i]), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    hub_stop(f); /* from now on neither hub nor token are needed */
    f->conf.token = NULL;
    expect_success(f);
    struct enrol_identity identity = {0};
    assert_int_equal(enrol_load(f->dir, &identity, NULL), 0);
    struct tls_context *tls = NULL;
    assert_int_equal(tls_client_new(&identity.files, NULL, &tls, NULL), 0);
    tls_context_free(tls);
    enrol_identity_done(&identity);
}

static void an_answer_that_was_lost_is_given_again(void **state)
{
    struct fixture *f = *state;
    f->pid = fakehub_fork(&f->hub);
    expect_success(f);
    assert_int_equal(unlink(path_of(f, "cert.pem")), 0); /* killed before it was stored */
    expect_success(f);
    assert_int_equal(unlink(path_of(f, "cert.pem")), 0);
    assert_int_equal(unlink(path_of(f, "ca.pem")), 0);
    expect_success(f);
}

static void a_used_token_is_refused(void **state)
{
    struct fixture *f = *state;
    f->pid = fakehub_fork(&f->hub);
    expect_success(f);
    assert_int_equal(file_remove_tree(path_of(f, ""), NULL), 0); /* another machine */
    expect_failure(f, ERR_DENIED, "the token was used already");
}

static void the_hubs_words_are_passed_on(void **state)
{
    struct fixture *f = *state;
    f->hub.refuse = "the token expired at 12:00; make a new one with leeward token create";
    f->pid = fakehub_fork(&f->hub);
    expect_failure(f, ERR_DENIED, "the token expired at 12:00");
}

static void no_token_is_an_error_with_the_command_to_run(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct enrol_identity identity;
    f->conf.token = "";
    assert_int_equal(enrol_ensure(&f->conf, &identity, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.correction, "leeward enrol-token create"));
}

static void a_mistyped_token_is_refused_at_once(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"lwe_", "x", "lwt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.00"};
    for (size_t i = 0; i < 3; i++) {
        f->conf.token = bad[i];
        expect_failure(f, ERR_INVALID, "not an enrolment token");
    }
    f->conf.token = f->token;
    f->token[strlen(f->token) - 1] = '\0';
    expect_failure(f, ERR_INVALID, "not an enrolment token");
    f->token[10] = '/';
    expect_failure(f, ERR_INVALID, "not an enrolment token");
}

static void another_hub_gets_no_token(void **state)
{
    struct fixture *f = *state;
    struct testca *other = testca_new(f->dir, "other");
    f->pid = fakehub_fork(&f->hub);
    memcpy(f->token + 48, testca_fingerprint(other), 64);
    expect_failure(f, ERR_UNAUTHENTICATED, "not the hub that made the token");
    testca_free(other);
}

static void an_answer_with_another_ca_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_INIT;
    struct enrol_identity identity;
    f->hub.wrong_ca = true;
    f->pid = fakehub_fork(&f->hub);
    assert_int_equal(enrol_ensure(&f->conf, &identity, &err), -1);
    assert_int_equal(err.code, ERR_UNAUTHENTICATED);
    assert_int_equal(access(path_of(f, "cert.pem"), F_OK), -1);
}

/* A port on which nobody listens and which nobody else is given; one who asks for it by name has it all the same. */
static int keep_port(const char *address)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    a.sin_port = htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void a_hub_that_is_down_is_waited_for(void **state)
{
    struct fixture *f = *state;
    f->pid = fakehub_fork(&f->hub); /* takes a port */
    hub_stop(f);
    int port = keep_port(f->hub.address);
    f->conf.wait_usec = 700 * USEC_PER_MSEC;
    uint64_t begun = clock_mono_usec();
    expect_failure(f, ERR_UNAVAILABLE, "enrolling with the hub at 127.0.0.1");
    assert_true(clock_mono_usec() - begun >= 100 * USEC_PER_MSEC);
    pid_t later = fork();
    if (later == 0) {
        usleep(500000); /* the hub comes while enrolment is trying */
        struct fakehub *hub = &f->hub;
        sd_event *loop = NULL;
        char address[64];
        memcpy(address, hub->address, sizeof(address));
        assert_true(sd_event_new(&loop) >= 0);
        fakehub_start(hub, loop, address);
        while (sd_event_run(loop, UINT64_MAX) >= 0)
            ;
        _exit(0);
    }
    f->pid = later;
    f->conf.wait_usec = 90 * USEC_PER_SEC;
    expect_success(f);
    close(port);
}

static void an_identity_of_another_role_is_refused(void **state)
{
    struct fixture *f = *state;
    f->pid = fakehub_fork(&f->hub);
    expect_success(f);
    f->conf.role = "vault";
    expect_failure(f, ERR_REFUSED, "belongs to a node, this is a vault");
}

static void damaged_files_are_named(void **state)
{
    struct fixture *f = *state;
    f->pid = fakehub_fork(&f->hub);
    expect_success(f);
    assert_int_equal(file_replace(path_of(f, "cert.pem"), "junk", 4, 0600, NULL), 0);
    expect_failure(f, ERR_CORRUPT, "identity/cert.pem");
    assert_int_equal(unlink(path_of(f, "cert.pem")), 0);
    assert_int_equal(file_replace(path_of(f, "key.pem"), "junk", 4, 0600, NULL), 0);
    expect_failure(f, ERR_CORRUPT, "identity/key.pem");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_token_gives_an_identity_that_stays),
        TEST(an_answer_that_was_lost_is_given_again),
        TEST(a_used_token_is_refused),
        TEST(the_hubs_words_are_passed_on),
        TEST(no_token_is_an_error_with_the_command_to_run),
        TEST(a_mistyped_token_is_refused_at_once),
        TEST(another_hub_gets_no_token),
        TEST(an_answer_with_another_ca_is_refused),
        TEST(a_hub_that_is_down_is_waited_for),
        TEST(an_identity_of_another_role_is_refused),
        TEST(damaged_files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
