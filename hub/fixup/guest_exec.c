/* SPDX-License-Identifier: Apache-2.0
 *
 * fork, chroot, exec; one pipe for all that the program says, read to its end.
 */
#include "hub/fixup/guest_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/base/buf.h"
#include "transport/base/mem.h"

#define SAID_MAX (16U << 20)

static void become(const struct guest_tree *tree, char *const *argv, int out, bool with_errors)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (fchdir(tree->fd) < 0 || chroot(".") < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 ||
        dup2(with_errors ? out : null, 2) < 0)
        _exit(126);
    (void)clearenv();
    (void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    (void)setenv("LC_ALL", "C", 1);
    execvp(argv[0], argv);
    _exit(127);
}

/* The last line that says something. */
static void last_line(struct buf *said, char ret_line[200])
{
    size_t end = said->len, begin;

    while (end > 0 && (said->data[end - 1] == '\n' || said->data[end - 1] == ' '))
        end--;
    for (begin = end; begin > 0 && said->data[begin - 1] != '\n' && end - begin < 199;)
        begin--;
    for (size_t i = 0; i < end - begin; i++)
        ret_line[i] =
            (char)(said->data[begin + i] >= 0x20 && said->data[begin + i] < 0x7f ? said->data[begin + i] : '?');
    ret_line[end - begin] = '\0';
}

static int collect(int fd, struct buf *said, struct err *err)
{
    char data[16384];
    ssize_t n;

    while ((n = read(fd, data, sizeof(data))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "reading what a program of the guest's says");
        if (buf_append(said, data, (size_t)n, err) < 0)
            return -1;
    }
    return 0;
}

static int judge(pid_t pid, const char *program, struct buf *said, struct err *err)
{
    char line[200];
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_sys(err, errno, "waiting for the guest's %s", program);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    last_line(said, line);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_set(err, ERR_NOT_FOUND, "the guest has no program %s", program);
    return err_set(err, ERR_REFUSED, "the guest's %s failed with %s %d%s%s", program,
        WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
        line[0] ? ": " : "", line);
}

static int execute(
    const struct guest_tree *tree, char *const *argv, bool with_errors, struct buf *said, struct err *err)
{
    int ends[2], rc;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_sys(err, errno, "a pipe for the guest's %s", argv[0]);
    pid_t pid = fork();

    if (pid == 0)
        become(tree, argv, ends[1], with_errors);
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return err_sys(err, errno, "starting the guest's %s", argv[0]);
    }
    rc = collect(ends[0], said, err);
    (void)close(ends[0]);
    /* A program that says too much gets SIGPIPE and ends. */
    return judge(pid, argv[0], said, rc < 0 ? NULL : err) < 0 || rc < 0 ? -1 : 0;
}

int guest_exec_run(const struct guest_tree *tree, char *const *argv, struct err *err)
{
    AUTO_BUF struct buf said = BUF_INIT(SAID_MAX);

    return execute(tree, argv, true, &said, err);
}

int guest_exec_ask(const struct guest_tree *tree, const char *const *argv, char **ret_text, struct err *err)
{
    AUTO_BUF struct buf said = BUF_INIT(SAID_MAX);

    if (execute(tree, (char *const *)argv, false, &said, err) < 0 || !buf_str(&said, err))
        return -1;
    *ret_text = mem_strdup((char *)said.data);
    return *ret_text ? 0 : err_set(err, ERR_NOMEM, "no memory for what the guest's %s says", argv[0]);
}
