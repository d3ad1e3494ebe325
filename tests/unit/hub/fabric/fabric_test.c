/* SPDX-License-Identifier: Apache-2.0
 *
 * Adapters by themselves: a replica as libvirt's XML, URIs of disks, a user's program with all that can go wrong with one, tasks, and boot checks.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <libxml/parser.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/domain_xml.h"
#include "hub/fabric/fabric_task.h"
#include "hub/fabric/http_probe.h"
#include "transport/base/clock.h"
#include "transport/base/mem.h"

#define ID "1a2b3c4d-0000-4000-8000-000000000001"
#define DEADLINE_USEC (60 * USEC_PER_SEC)

static json_t *spec_of(const char *name, const char *disks)
{
    json_t *list = json_loads(disks, 0, NULL);
    json_t *spec = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:i, s:I, s:s, s:s, s:o}", "failover_id", ID, "kind",
        "test", "machine", "id", ID, "name", name, "hostname", "h", "cpus", 2, "memory_bytes", (json_int_t)512 << 20,
        "firmware", "bios", "network", "drill<&>", "disks", list);

    assert_non_null(spec);
    return spec;
}

/* ---- http_probe ---- */

static void what_goes_to_another_host_without_tls_is_in_the_clear(void **state)
{
    static const char *const hidden[] = {"https://hooks.example.com/x", "http://localhost:80/", "http://LOCALHOST/",
        "http://127.0.0.1:9/", "http://127.255.0.3/", "http://[::1]:8080/a", "HTTPS://x/"};
    static const char *const open[] = {"http://hooks.example.com/x", "http://127.0.0.1.example.com/",
        "http://localhost.example/", "http://128.0.0.1/", "http://[::2]/", "http://localhost@hooks.example.com/",
        "http://10.0.0.1/", "nonsense", ""};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
        assert_false(http_url_is_in_the_clear(hidden[i]));
    for (size_t i = 0; i < ARRAY_LEN(open); i++)
        assert_true(http_url_is_in_the_clear(open[i]));
}

/* ---- domain_xml ---- */

static void a_replica_becomes_a_domain_with_its_root_disk_first(void **state)
{
    json_t *config = json_object();
    json_t *spec = spec_of("web 1/<>", "[{\"number\":0,\"uri\":\"nbd+unix:///0?socket=/run/x%20y\",\"is_root\":false},"
                                       "{\"number\":3,\"uri\":\"nbd+unix:///3?socket=/run/x%20y\",\"is_root\":true}]");
    AUTO_FREE char *xml = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(domain_xml(config, spec, false, &xml, &err), 0);
    xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR);

    assert_non_null(doc);
    xmlFreeDoc(doc);
    assert_non_null(strstr(xml, "<name>leeward-web-1----1a2b3c4d</name>"));
    assert_non_null(strstr(xml, "<domain type=\"qemu\">"));
    assert_non_null(strstr(xml, "<memory>524288</memory>"));
    assert_non_null(strstr(xml, "socket=\"/run/x y\""));
    assert_non_null(strstr(xml, "network=\"drill&lt;&amp;&gt;\""));
    assert_non_null(strstr(xml, "<mac address=\"52:54:00:"));
    const char *root = strstr(xml, "name=\"3\""), *data = strstr(xml, "name=\"0\"");

    assert_true(root && data && root < data);
    json_decref(config);
    json_decref(spec);
}

static void uris_that_are_not_ours_are_refused(void **state)
{
    static const char *const bad[] = {"", "nbd://host/0", "nbd+unix:///0",
        "nbd+unix:///0?socket=", "nbd+unix:///0?socket=run", "nbd+unix:///0?socket=/a%2", "nbd+unix:///0?socket=/a%zz",
        "nbd+unix:///%00?socket=/a", "file:///etc/passwd"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *socket = NULL, *export = NULL;
        struct err err = ERR_INIT;

        assert_int_equal(domain_disk_source(bad[i], &socket, &export, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(socket);
        assert_null(export);
    }
}

static void targets_take_only_what_their_adapter_knows(void **state)
{
    static const struct {
        const char *adapter, *config;
        int rc;
    } cases[] = {
        {"disk", "{}", 0},
        {"disk", "{\"uri\":\"x\"}", -1},
        {"command", "{\"program\":\"/bin/true\"}", 0},
        {"command", "{\"program\":\"/bin/true\",\"timeout_seconds\":0}", -1},
        {"command", "{\"program\":\"true\"}", -1},
        {"command", "{}", -1},
        {"libvirt", "{\"uri\":\"qemu:///system\"}", 0},
        {"libvirt", "{\"uri\":\"host\"}", -1},
        {"libvirt", "{\"uri\":\"qemu:///system\",\"accelerate\":1}", -1},
        {"cloud", "{}", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *config = json_loads(cases[i].config, 0, NULL);

        assert_int_equal(compute_configure(cases[i].adapter, config, NULL), cases[i].rc);
        json_decref(config);
    }
}

/* ---- a user's program ---- */

static char *script(const char *body)
{
    static unsigned serial;
    char *path =
        mem_printf("%s/leeward-fabric-%d-%u", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid(), serial++);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", body);
    fclose(f);
    assert_int_equal(chmod(path, 0700), 0);
    return path;
}

/* Runs start of the program to its end. */
static int run_program(const char *body, int timeout_s, json_t **ret_replica, struct err *err)
{
    AUTO_FREE char *path = script(body);
    json_t *config = json_pack("{s:s, s:i}", "program", path, "timeout_seconds", timeout_s), *spec = spec_of("m", "[]");
    atomic_bool cancelled = false;
    const struct compute_call call = {.config = config, .spec = spec, .cancelled = &cancelled};
    int rc = compute_command.start(&call, ret_replica, err);

    json_decref(config);
    json_decref(spec);
    unlink(path);
    return rc;
}

static void a_program_gets_the_spec_and_answers_with_the_replica(void **state)
{
    struct err err = ERR_INIT;
    json_t *replica = NULL;

    (void)state;
    assert_int_equal(
        run_program("grep -q '\"failover_id\":\"" ID "\"' && echo '{\"name\":\"r\",\"verdict\":\"passed\"}'", 60,
            &replica, &err),
        0);
    assert_string_equal(compute_text(replica, "name", ""), "r");
    assert_string_equal(compute_text(replica, "verdict", ""), "passed");
    json_decref(replica);
    /* It need not read, nor say anything. */
    assert_int_equal(run_program("exit 0", 60, &replica, &err), 0);
    assert_string_equal(compute_text(replica, "verdict", ""), "unknown");
    json_decref(replica);
}

static void a_program_that_goes_wrong_is_an_error_with_its_own_words(void **state)
{
    struct err err = ERR_INIT;
    json_t *replica = NULL;

    (void)state;
    assert_int_equal(run_program("echo first >&2; echo 'no rack left' >&2; exit 3", 60, &replica, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "status 3: no rack left"));
    /* However much it says before that, and however soon it ends after it. */
    assert_int_equal(
        run_program("yes lamentation | head -n 2500 >&2; echo 'no rack left' >&2; exit 3", 60, &replica, &err), -1);
    assert_non_null(strstr(err.text, "status 3: no rack left"));
    assert_int_equal(run_program("kill -TERM $$", 60, &replica, &err), -1);
    assert_non_null(strstr(err.text, "signal 15"));
    assert_int_equal(run_program("echo 'not json'", 60, &replica, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(run_program("echo '[1]'", 60, &replica, &err), -1);
    assert_int_equal(run_program("head -c 100000 /dev/zero", 60, &replica, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(run_program("exec cat /dev/zero", 60, &replica, &err), -1);
    assert_int_equal(run_program("sleep 1000 & exec sleep 1000", 1, &replica, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_null(replica);
}

/* A program that leaves something running with its pipes open has ended all the same. */
static void what_a_program_leaves_running_is_not_waited_for(void **state)
{
    struct err err = ERR_INIT;
    json_t *replica = NULL;
    uint64_t begin = clock_mono_usec();

    (void)state;
    assert_int_equal(run_program("sleep 1000 & echo '{}'", 900, &replica, &err), 0);
    assert_true(clock_mono_usec() - begin < 600 * USEC_PER_SEC);
    json_decref(replica);
}

static void a_libvirt_host_that_is_down_is_said_to_be(void **state)
{
    json_t *config = json_pack("{s:s}", "uri", "qemu+unix:///system?socket=/nowhere/libvirt-sock"),
           *spec = spec_of("m", "[]"), *replica = NULL;
    atomic_bool cancelled = false;
    const struct compute_call call = {.config = config, .spec = spec, .cancelled = &cancelled};
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(compute_libvirt.check(&call, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "cannot be reached"));
    assert_int_equal(compute_libvirt.start(&call, &replica, &err), -1);
    assert_int_equal(compute_libvirt.stop(&call, &err), -1);
    json_decref(config);
    json_decref(spec);
}

/* ---- tasks ---- */

static int until_done(const struct fabric_ask *ask, json_t **ret_answer, struct err *err)
{
    uint64_t begin = clock_mono_usec();
    int rc;

    while ((rc = fabric_task(ask, ret_answer, err)) == 0 && clock_mono_usec() - begin < DEADLINE_USEC)
        (void)poll(NULL, 0, 5);
    return rc;
}

static void tasks_are_begun_once_and_collected_once(void **state)
{
    AUTO_FREE char *path = script(
        "cat >/dev/null; echo x >>$0.calls; [ $1 = check ] && { echo 'not today' >&2; exit 1; }; echo '{\"n\":1}'");
    AUTO_FREE char *calls = mem_printf("%s.calls", path);
    json_t *config = json_pack("{s:s}", "program", path), *spec = spec_of("m", "[]"), *answer = NULL;
    struct fabric_ask ask = {
        .key = "job/0", .verb = FABRIC_START, .adapter = "command", .config = config, .spec = spec};
    struct err err = ERR_INIT;
    struct stat st;

    (void)state;
    assert_int_equal(until_done(&ask, &answer, &err), 1);
    assert_int_equal(json_integer_value(json_object_get(answer, "n")), 1);
    json_decref(answer);
    assert_int_equal(stat(calls, &st), 0);
    assert_int_equal(st.st_size, 2);
    ask.verb = FABRIC_CHECK;
    assert_int_equal(until_done(&ask, &answer, &err), -1);
    assert_non_null(strstr(err.text, "not today"));
    ask.adapter = "cloud";
    assert_int_equal(fabric_task(&ask, &answer, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    json_decref(config);
    json_decref(spec);
    unlink(path);
    unlink(calls);
}

static void cancelled_tasks_end_and_are_forgotten(void **state)
{
    AUTO_FREE char *path = script("exec sleep 1000");
    json_t *config = json_pack("{s:s}", "program", path), *spec = spec_of("m", "[]"), *answer = NULL;
    const struct fabric_ask ask = {
        .key = "gone/0", .verb = FABRIC_STOP, .adapter = "command", .config = config, .spec = spec};
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(fabric_task(&ask, &answer, &err), 0);
    fabric_task_cancel("gone/");
    fabric_task_cancel("");
    json_decref(config);
    json_decref(spec);
    unlink(path);
}

/* ---- boot checks ---- */

static void a_port_that_answers_is_a_verdict_and_so_is_one_that_does_not(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    atomic_bool cancelled = false;
    json_t *replica = json_object(), *check;
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    check = json_pack("{s:s, s:i, s:i}", "type", "tcp", "port", (int)ntohs(a.sin_port), "timeout_seconds", 1);
    /* Bound and not listening: refused. */
    assert_int_equal(boot_check_by_tcp(check, "127.0.0.1", &cancelled, replica, &err), 0);
    assert_string_equal(compute_text(replica, "verdict", ""), "failed");
    assert_int_equal(listen(fd, 8), 0);
    json_object_set_new(check, "timeout_seconds", json_integer(60));
    assert_int_equal(boot_check_by_tcp(check, "127.0.0.1", &cancelled, replica, &err), 0);
    assert_string_equal(compute_text(replica, "verdict", ""), "passed");
    assert_int_equal(boot_check_by_tcp(check, NULL, &cancelled, replica, &err), 0);
    assert_string_equal(compute_text(replica, "verdict", ""), "unknown");
    close(fd);
    atomic_store(&cancelled, true);
    assert_int_equal(boot_check_by_tcp(check, "127.0.0.1", &cancelled, replica, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    json_decref(check);
    json_decref(replica);
}

static void boot_checks_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        const char *check;
        bool serial;
        int rc;
    } cases[] = {
        {"{\"type\":\"none\"}", false, 0},
        {"{\"type\":\"tcp\",\"port\":22}", false, 0},
        {"{\"type\":\"tcp\"}", false, -1},
        {"{\"type\":\"tcp\",\"port\":70000}", false, -1},
        {"{\"type\":\"serial\",\"pattern\":\"login:\"}", true, 0},
        {"{\"type\":\"serial\",\"pattern\":\"login:\"}", false, -1},
        {"{\"type\":\"serial\"}", true, -1},
        {"{\"type\":\"ping\"}", true, -1},
        {"{\"type\":\"tcp\",\"port\":22,\"timeout_seconds\":0}", true, -1},
        {"{\"type\":\"tcp\",\"port\":22,\"color\":\"red\"}", true, -1},
        {"[]", true, -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *check = json_loads(cases[i].check, 0, NULL);

        assert_int_equal(boot_check_validate(check, cases[i].serial, NULL), cases[i].rc);
        json_decref(check);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_to_another_host_without_tls_is_in_the_clear),
        cmocka_unit_test(a_replica_becomes_a_domain_with_its_root_disk_first),
        cmocka_unit_test(uris_that_are_not_ours_are_refused),
        cmocka_unit_test(targets_take_only_what_their_adapter_knows),
        cmocka_unit_test(a_program_gets_the_spec_and_answers_with_the_replica),
        cmocka_unit_test(a_program_that_goes_wrong_is_an_error_with_its_own_words),
        cmocka_unit_test(what_a_program_leaves_running_is_not_waited_for),
        cmocka_unit_test(a_libvirt_host_that_is_down_is_said_to_be),
        cmocka_unit_test(tasks_are_begun_once_and_collected_once),
        cmocka_unit_test(cancelled_tasks_end_and_are_forgotten),
        cmocka_unit_test(a_port_that_answers_is_a_verdict_and_so_is_one_that_does_not),
        cmocka_unit_test(boot_checks_that_make_no_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
