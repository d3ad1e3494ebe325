/* SPDX-License-Identifier: Apache-2.0
 *
 * One line per event on standard error, built in a stack buffer and written with one write(2), so that lines
 * of several threads never mix. A line that is too long is cut at a field, with cut=true as its last one.
 * Logging never allocates and never fails.
 *
 * Formats: logfmt (`2026-... info ready daemon=leeward-hub addr=...`; without the time on the journal, which
 * has its own) and JSON (RFC 8259; text that is not UTF-8 is shown with U+FFFD). Priorities on the journal:
 * sd-daemon(3).
 */
#include "transport/base/log.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/base/clock.h"
#include "transport/base/mem.h"

/* A pipe takes up to PIPE_BUF (4096) bytes in one piece. */
enum { LINE_BYTES = 4096, TAIL_BYTES = 24 };

static const struct {
    const char *name;
    int priority; /* of syslog(3) */
} levels[] = {
    [LOG_DEBUG] = {"debug", 7},
    [LOG_INFO] = {"info", 6},
    [LOG_WARN] = {"warn", 4},
    [LOG_ERROR] = {"error", 3},
};

static atomic_int lowest_level = LOG_INFO;
static atomic_bool json_lines;
static const char *_Atomic daemon_name;

struct line {
    char text[LINE_BYTES];
    size_t len;
    bool full;
};

/* Adds text or nothing: a piece that does not fit marks the line as full. */
static void add(struct line *l, const char *s, size_t n)
{
    if (l->full || n > sizeof(l->text) - TAIL_BYTES - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->len, s, n);
    l->len += n;
}

static void add_str(struct line *l, const char *s)
{
    add(l, s, strlen(s));
}

static void add_format(struct line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_format(struct line *l, const char *fmt, ...)
{
    char piece[64];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(piece, sizeof(piece), fmt, ap);
    va_end(ap);
    if (n > 0)
        add(l, piece, (size_t)n < sizeof(piece) ? (size_t)n : sizeof(piece) - 1);
}

/* Length of the valid UTF-8 sequence at s (RFC 3629: no overlong forms, no surrogates), 0 when there is none.
 */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : (s[0] & 0xf0) == 0xe0       ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;

    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void add_quoted(struct line *l, const char *text)
{
    add(l, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)text; *p && !l->full;) {
        size_t n = utf8_length(p);
        if (*p == '"' || *p == '\\')
            add(l, (const char[]){'\\', (char)*p}, 2);
        else if (*p == '\n')
            add(l, "\\n", 2);
        else if (*p < 0x20 || *p == 0x7f)
            add_format(l, "\\u%04x", *p);
        else if (n == 0)
            add_str(l, "\xef\xbf\xbd");
        else
            add(l, (const char *)p, n);
        p += n ? n : 1;
    }
    add(l, "\"", 1);
}

static bool is_plain(const char *text)
{
    if (!*text)
        return false;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if (*p <= 0x20 || *p >= 0x7f || strchr("\"=\\", *p))
            return false;
    return true;
}

static void add_text(struct line *l, const char *text, bool json)
{
    if (!text)
        text = "";
    if (!json && is_plain(text))
        add_str(l, text);
    else
        add_quoted(l, text);
}

static void add_value(struct line *l, const struct log_field *f, bool json)
{
    switch (f->type) {
    case LOG_FIELD_STR:
        add_text(l, f->v.s, json);
        return;
    case LOG_FIELD_U64:
        add_format(l, "%llu", (unsigned long long)f->v.u);
        return;
    case LOG_FIELD_I64:
        add_format(l, "%lld", (long long)f->v.i);
        return;
    case LOG_FIELD_BOOL:
        add_str(l, f->v.b ? "true" : "false");
        return;
    case LOG_FIELD_F64:
        if (isfinite(f->v.f))
            add_format(l, "%.6g", f->v.f);
        else
            add_str(l, json ? "null" : "nan"); /* JSON has no word for it */
        return;
    }
}

/* One field, or nothing of it when it does not fit. */
static void add_field(struct line *l, const struct log_field *f, bool json)
{
    size_t before = l->len;

    add_str(l, json ? ",\"" : " ");
    add_str(l, f->key);
    add_str(l, json ? "\":" : "=");
    add_value(l, f, json);
    if (l->full)
        l->len = before;
}

static void begin_line(struct line *l, enum log_level level, const char *event, bool json)
{
    const char *journal = getenv("JOURNAL_STREAM");
    char time[CLOCK_RFC3339_SIZE];

    if (journal)
        add_format(l, "<%d>", levels[level].priority);
    clock_rfc3339(clock_utc_usec(), time);
    if (json)
        add_format(l, "{\"time\":\"%s\"", time);
    else if (!journal)
        add_format(l, "%s ", time);
    add_str(l, json ? ",\"level\":\"" : "");
    add_str(l, levels[level].name);
    add_str(l, json ? "\",\"event\":" : " ");
    add_text(l, event, json);
    const char *name = atomic_load(&daemon_name);
    if (name)
        add_field(l, &LOG_S("daemon", name), json);
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields, unsigned count)
{
    struct line l = {.len = 0};
    bool json = atomic_load(&json_lines);
    int saved_errno = errno;

    if ((int)level < atomic_load(&lowest_level) || (unsigned)level >= ARRAY_LEN(levels))
        return;
    begin_line(&l, level, event, json);
    for (unsigned i = 0; i < count && !l.full; i++)
        add_field(&l, &fields[i], json);
    const char *tail = json ? (l.full ? ",\"cut\":true}\n" : "}\n") : (l.full ? " cut=true\n" : "\n");
    memcpy(l.text + l.len, tail, strlen(tail));
    l.len += strlen(tail);
    while (write(STDERR_FILENO, l.text, l.len) < 0 && errno == EINTR)
        ;
    errno = saved_errno;
}

void log_set_level(enum log_level level)
{
    atomic_store(&lowest_level, (int)level);
}

void log_set_json(bool on)
{
    atomic_store(&json_lines, on);
}

void log_set_daemon(const char *name)
{
    atomic_store(&daemon_name, name);
}

int log_level_from_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (strcmp(levels[i].name, name) == 0)
            return (int)i;
    return -1;
}
