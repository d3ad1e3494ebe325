/* SPDX-License-Identifier: Apache-2.0
 *
 * Adapters by themselves: a replica as libvirt's XML, URIs of disks, a user's program with all that can go wrong with one, tasks, and boot checks.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <png.h>
#include <libxml/parser.h>

#include "hub/fabric/boot_check.h"
#include "hub/fabric/compute.h"
#include "hub/fabric/domain_xml.h"
#include "hub/fabric/screenshot.h"
#include "hub/fixup/fixup_spec.h"
#include "hub/fabric/fabric_task.h"
#include "hub/fabric/http_probe.h"
#include "hub/fabric/libvirt_child.h"
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
    json_object_set_new(
        spec, "nics", json_loads("[{\"network\":\"drill<&>\",\"isolated\":true},{\"network\":\"b\"}]", 0, NULL));

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
    /* Two cards, each with the hardware address that its fix-ups look for. */
    const char *second = strstr(xml, "network=\"b\"");

    assert_true(second && strstr(xml, "network=\"drill&lt;") < second);
    for (unsigned i = 0; i < 2; i++) {
        char mac[18], element[64];

        fixup_nic_mac(ID, i, mac);
        snprintf(element, sizeof(element), "<mac address=\"%s\"/>", mac);
        assert_non_null(strstr(xml, element));
        assert_null(strstr(strstr(xml, element) + 1, element));
    }
    const char *root = strstr(xml, "name=\"3\""), *data = strstr(xml, "name=\"0\"");

    assert_true(root && data && root < data);
    json_decref(config);
    json_decref(spec);
}

static void a_network_is_isolated_when_it_does_not_forward(void **state)
{
    static const struct {
        const char *xml, *forward;
    } cases[] = {
        {"<network><name>drill</name><bridge name='virbr9'/><ip address='10.0.0.1'/></network>", ""},
        {"<network><name>n</name><forward/></network>", "nat"},
        {"<network><name>n</name><forward mode='route' dev='eth0'/></network>", "route"},
        {"<network><name>n</name><forward mode='bridge'/><bridge name='br0'/></network>", "bridge"},
        {"<network><metadata><forward mode='x'/></metadata></network>", ""},
        {"<network", NULL},
        {"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *forward = domain_network_forward(cases[i].xml);

        assert_true((forward == NULL) == (cases[i].forward == NULL));
        if (forward)
            assert_string_equal(forward, cases[i].forward);
    }
}

/* ---- screens ---- */

static int picture(const char *text, size_t n, struct buf *png, struct err *err)
{
    AUTO_BUF struct buf image = BUF_INIT(1u << 20);

    assert_int_equal(buf_append(&image, text, n, NULL), 0);
    return screenshot_png(&image, png, err);
}

static void a_screen_becomes_a_picture_with_its_pixels(void **state)
{
    static const char ppm[] = "P6\n# a comment\n2 1\n255\n\x01\x02\x03\xf1\xf2\xf3";
    AUTO_BUF struct buf png = BUF_INIT(1u << 20);
    AUTO_BUF struct buf again = BUF_INIT(1u << 20);
    png_image image = {.version = PNG_IMAGE_VERSION};
    uint8_t pixels[6] = {0};

    (void)state;
    assert_int_equal(picture(ppm, sizeof(ppm) - 1, &png, NULL), 0);
    assert_true(png_image_begin_read_from_memory(&image, png.data, png.len));
    image.format = PNG_FORMAT_RGB;
    assert_int_equal(image.width, 2);
    assert_int_equal(image.height, 1);
    assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    assert_memory_equal(pixels, ppm + sizeof(ppm) - 1 - 6, 6);
    /* What is one already stays it. */
    assert_int_equal(screenshot_png(&png, &again, NULL), 0);
    assert_int_equal(again.len, png.len);
    assert_memory_equal(again.data, png.data, png.len);
}

static void what_is_no_screen_is_refused(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
    } bad[] = {{"", ERR_CORRUPT}, {"P", ERR_CORRUPT}, {"P5\n1 1\n255\nabc", ERR_CORRUPT}, {"P6\n", ERR_CORRUPT},
        {"P6\n2 1\n255\nabc", ERR_CORRUPT}, {"P6\n0 1\n255\nabc", ERR_CORRUPT}, {"P6\n-1 1\n255\nabc", ERR_CORRUPT},
        {"P6\n1 1\n65535\nabcdef", ERR_CORRUPT}, {"P6\n1 1\n255", ERR_CORRUPT}, {"P6\n#", ERR_CORRUPT},
        {"P6\n999999999999 1\n255\nabc", ERR_CORRUPT}, {"P6\n9999 9999\n255\nabc", ERR_REFUSED}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_BUF struct buf png = BUF_INIT(1u << 20);
        struct err err = ERR_INIT;

        assert_int_equal(picture(bad[i].text, strlen(bad[i].text), &png, &err), -1);
        assert_int_equal(err.code, bad[i].code);
        assert_int_equal(png.len, 0);
    }
}

/* ---- a libvirt host that stands still ---- */

/* It accepts (the kernel does, for a daemon that is frozen) and never says a word. */
struct mute {
    int fd;
    char folder[64];
    struct sockaddr_un address;
    json_t *config;
};

static void mute_open(struct mute *m)
{
    *m = (struct mute){.folder = "/tmp/leeward-mute-XXXXXX", .address.sun_family = AF_UNIX};
    assert_non_null(mkdtemp(m->folder));
    snprintf(m->address.sun_path, sizeof(m->address.sun_path), "%s/libvirt-sock", m->folder);
    m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(m->fd, (struct sockaddr *)&m->address, sizeof(m->address)), 0);
    assert_int_equal(listen(m->fd, 16), 0);
    AUTO_FREE char *uri = mem_printf("qemu+unix:///system?socket=%s", m->address.sun_path);

    m->config = json_pack("{s:s}", "uri", uri);
    assert_non_null(m->config);
}

static void mute_close(struct mute *m)
{
    close(m->fd);
    unlink(m->address.sun_path);
    rmdir(m->folder);
    json_decref(m->config);
}

/* Whoever connects next. */
static int mute_accept(const struct mute *m)
{
    struct pollfd p = {.fd = m->fd, .events = POLLIN};

    assert_int_equal(poll(&p, 1, DEADLINE_USEC / USEC_PER_MSEC), 1);
    int peer = accept(m->fd, NULL, NULL);

    assert_true(peer >= 0);
    return peer;
}

/* The process at the other end. */
static pid_t asker(int peer)
{
    struct ucred who;
    socklen_t n = sizeof(who);

    assert_int_equal(getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &n), 0);
    assert_true(who.pid > 1 && who.pid != getpid());
    return who.pid;
}

static bool ignores(pid_t pid, int number)
{
    AUTO_FREE char *path = mem_printf("/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    unsigned long long mask = 0;
    char line[256];

    assert_non_null(f);
    while (fgets(line, sizeof(line), f) && sscanf(line, "SigIgn: %llx", &mask) != 1)
        ;
    fclose(f);
    return mask >> (number - 1) & 1;
}

struct shot {
    const json_t *config;
    int rc;
    struct err err;
};

static int shoot(const json_t *config, uint64_t wait_usec, struct err *err)
{
    AUTO_BUF struct buf png = BUF_INIT(1u << 20);
    const struct compute_screen_limits limits = {.wait_usec = wait_usec, .at_once = 1};

    err_clear(err);
    return compute_screenshot("libvirt", config, ID, &limits, &png, err);
}

static void *shoot_beside(void *arg)
{
    struct shot *s = arg;

    s->rc = shoot(s->config, 20 * USEC_PER_SEC, &s->err); /* less than opening may take */
    return NULL;
}

/* Whoever asks gets an answer, and no more are being asked than allowed. */
static void a_host_that_does_not_answer_costs_its_place_and_no_more(void **state)
{
    struct err err = ERR_INIT;
    pthread_t beside;
    struct mute m;

    (void)state;
    mute_open(&m);
    struct shot first = {.config = m.config, .err = ERR_INIT};

    assert_int_equal(pthread_create(&beside, NULL, shoot_beside, &first), 0);
    int peer AUTO_CLOSE = mute_accept(&m);

    assert_int_equal(shoot(m.config, 60 * USEC_PER_SEC, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "other replicas"));
    pthread_join(beside, NULL);
    assert_int_equal(first.rc, -1);
    assert_int_equal(first.err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(first.err.text, "did not answer"));
    /* Nobody waits there any more, and the place is free again. */
    char word[512];

    while (recv(peer, word, sizeof(word), 0) > 0)
        ;
    close(m.fd);
    m.fd = -1;
    assert_int_equal(shoot(m.config, 60 * USEC_PER_SEC, &err), -1);
    assert_non_null(strstr(err.text, "cannot be reached"));
    mute_close(&m);
}

/* What it asked for may have happened: nobody may take it for refused. */
static void whoever_asks_a_host_survives_its_end_and_one_that_dies_has_refused_nothing(void **state)
{
    pthread_t beside;
    struct mute m;

    (void)state;
    mute_open(&m);
    struct shot shot = {.config = m.config, .err = ERR_INIT};

    assert_int_equal(pthread_create(&beside, NULL, shoot_beside, &shot), 0);
    int peer AUTO_CLOSE = mute_accept(&m);
    pid_t pid = asker(peer);

    assert_true(ignores(pid, SIGPIPE));
    assert_int_equal(kill(pid, SIGKILL), 0);
    pthread_join(beside, NULL);
    assert_int_equal(shot.rc, -1);
    assert_int_equal(shot.err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(shot.err.text, "signal 9"));
    mute_close(&m);
}

static void a_host_that_accepts_and_says_nothing_is_not_waited_for(void **state)
{
    static const char *const verbs[] = {"check", "start", "stop"};
    json_t *spec = spec_of("m", "[]"), *answer = NULL;
    const atomic_bool cancelled = false;
    struct err err = ERR_INIT;
    struct mute m;

    (void)state;
    mute_open(&m);
    const struct compute_call call = {.config = m.config, .spec = spec, .cancelled = &cancelled};

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        const struct libvirt_ask ask = {.verb = verbs[i], .call = &call, .limits = {1, 1}, .answer = &answer};

        err_clear(&err);
        assert_int_equal(libvirt_child_ask(&ask, &err), -1);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
        assert_non_null(strstr(err.text, "opening a connection took more than 1 s"));
        assert_true(err.correction[0] != '\0');
        assert_null(answer);
    }
    json_decref(spec);
    mute_close(&m);
}

/* A task of the hub's is let go as soon as its job is: here it would be after a minute. */
static void a_job_that_is_cancelled_does_not_wait_for_its_host(void **state)
{
    json_t *spec = spec_of("m", "[]"), *answer = NULL;
    struct err err = ERR_INIT;
    struct mute m;

    (void)state;
    mute_open(&m);
    const struct fabric_ask ask = {
        .key = "mute/0", .verb = FABRIC_STOP, .adapter = "libvirt", .config = m.config, .spec = spec};

    assert_int_equal(fabric_task(&ask, &answer, &err), 0);
    int peer AUTO_CLOSE = mute_accept(&m);
    uint64_t begin = clock_mono_usec();
    char word[512];

    fabric_task_cancel("mute/");
    fabric_task_cancel("");
    while (recv(peer, word, sizeof(word), 0) > 0)
        ;
    assert_true(clock_mono_usec() - begin < 30 * USEC_PER_SEC);
    json_decref(spec);
    mute_close(&m);
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

/* libvirt's own test driver has a network "default" that forwards. Also when the check before it was passed: it may have been another one then. */
static void a_replica_of_a_test_is_not_started_in_a_network_that_forwards(void **state)
{
    json_t *config = json_pack("{s:s}", "uri", "test:///default");
    json_t *spec = spec_of("web1", "[]"), *replica = NULL;
    const atomic_bool cancelled = false;
    const struct compute_call call = {.config = config, .spec = spec, .cancelled = &cancelled};
    struct err err = ERR_INIT;

    (void)state;
    json_object_set_new(spec, "nics", json_loads("[{\"network\":\"default\",\"isolated\":true}]", 0, NULL));
    assert_int_equal(compute_libvirt.start(&call, &replica, &err), -1);
    assert_null(replica);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "not isolated"));
    json_decref(config);
    json_decref(spec);
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

/* What stops a replica must not find none, and be over, before the start that was cancelled has ended: that one might come to start it yet. */
static void a_replica_is_not_stopped_before_its_cancelled_start_has_ended(void **state)
{
    AUTO_FREE char *path =
        script("cat >/dev/null; [ $1 = start ] && { echo $$ >$0.pid.new; mv $0.pid.new $0.pid; exec sleep 1000; };"
               "kill -0 $(cat $0.pid) && echo 'it is still at work' >&2 && exit 1; exit 0");
    AUTO_FREE char *pid = mem_printf("%s.pid", path);
    json_t *config = json_pack("{s:s}", "program", path), *spec = spec_of("m", "[]"), *answer = NULL;
    struct fabric_ask ask = {
        .key = "start/0", .verb = FABRIC_START, .adapter = "command", .config = config, .spec = spec};
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(fabric_task(&ask, &answer, &err), 0);
    while (access(pid, F_OK) < 0)
        (void)poll(NULL, 0, 5);
    fabric_task_cancel("start/");
    ask.key = "stop/0";
    ask.verb = FABRIC_STOP;
    int rc = until_done(&ask, &answer, &err);

    assert_string_equal(err.text, "");
    assert_int_equal(rc, 1);
    json_decref(answer);
    json_decref(config);
    json_decref(spec);
    unlink(pid);
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

static void a_verdict_is_cut_between_characters(void **state)
{
    static const char pattern[] = "x\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
                                  "\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416\u0416"
                                  "\u0416\u0416\u0416\u0416\u0416\u0416";
    json_t *replica = json_object();
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(boot_check_verdict(replica, "failed", &err, "\"%.60s\" was not seen", pattern), 0);
    assert_non_null(strstr(compute_text(replica, "verdict_text", ""), "was not seen"));
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

int main(int argc, char **argv)
{
    const int child = libvirt_child_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_to_another_host_without_tls_is_in_the_clear),
        cmocka_unit_test(a_replica_becomes_a_domain_with_its_root_disk_first),
        cmocka_unit_test(a_network_is_isolated_when_it_does_not_forward),
        cmocka_unit_test(uris_that_are_not_ours_are_refused),
        cmocka_unit_test(a_screen_becomes_a_picture_with_its_pixels),
        cmocka_unit_test(what_is_no_screen_is_refused),
        cmocka_unit_test(a_host_that_does_not_answer_costs_its_place_and_no_more),
        cmocka_unit_test(whoever_asks_a_host_survives_its_end_and_one_that_dies_has_refused_nothing),
        cmocka_unit_test(a_host_that_accepts_and_says_nothing_is_not_waited_for),
        cmocka_unit_test(a_job_that_is_cancelled_does_not_wait_for_its_host),
        cmocka_unit_test(targets_take_only_what_their_adapter_knows),
        cmocka_unit_test(a_program_gets_the_spec_and_answers_with_the_replica),
        cmocka_unit_test(a_program_that_goes_wrong_is_an_error_with_its_own_words),
        cmocka_unit_test(what_a_program_leaves_running_is_not_waited_for),
        cmocka_unit_test(a_libvirt_host_that_is_down_is_said_to_be),
        cmocka_unit_test(a_replica_of_a_test_is_not_started_in_a_network_that_forwards),
        cmocka_unit_test(tasks_are_begun_once_and_collected_once),
        cmocka_unit_test(cancelled_tasks_end_and_are_forgotten),
        cmocka_unit_test(a_replica_is_not_stopped_before_its_cancelled_start_has_ended),
        cmocka_unit_test(a_port_that_answers_is_a_verdict_and_so_is_one_that_does_not),
        cmocka_unit_test(a_verdict_is_cut_between_characters),
        cmocka_unit_test(boot_checks_that_make_no_sense_are_refused),
    };

    if (child >= 0)
        return child;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
