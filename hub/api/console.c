/* SPDX-License-Identifier: Apache-2.0
 *
 * From a path to a file of the console. Happy path: the path is in the table, the best encoding that the client takes is
 * chosen, and either its ETag is the client's already (304) or its bytes go out of read-only memory without a copy.
 *
 * Names under /assets/ carry the hash of their content and are kept by browsers for good; index.html is asked for again each
 * time, which costs a 304. The policy for scripts and styles has no inline, no eval and no string that becomes a script
 * (Trusted Types), so that text from a machine, a disk or a log cannot turn into code. Sources: RFC 9110 (12.5, 13.1.2),
 * RFC 9111 and 8246 (immutable), CSP level 3, Trusted Types.
 */
#include "hub/api/console.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define INDEX "/index.html"

/* data: are the small pictures within PatternFly's style sheet. */
#define POLICY                                                                                                         \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "                 \
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "           \
    "require-trusted-types-for 'script'; trusted-types 'none'"

static const char *const encoding_names[CONSOLE_ENCODINGS] = {
    [CONSOLE_PLAIN] = "identity", [CONSOLE_GZIP] = "gzip", [CONSOLE_BROTLI] = "br"};

/* ---- what the client takes ---- */

/* Of one element "name;q=0.5": whether the weight is above zero. */
static bool weight_allows(const char *element, size_t len)
{
    const char *p = memchr(element, ';', len);
    const char *end = element + len;

    while (p && p < end) {
        p++;
        while (p < end && isspace((unsigned char)*p))
            p++;
        if (end - p >= 3 && (*p == 'q' || *p == 'Q') && p[1] == '=')
            return strspn(p + 2, "0.") < (size_t)(strcspn(p + 2, ",; \t"));
        p = memchr(p, ';', (size_t)(end - p));
    }
    return true;
}

static bool element_is(const char *element, size_t len, const char *name)
{
    size_t n = 0;

    while (n < len && element[n] != ';' && !isspace((unsigned char)element[n]))
        n++;
    return n == strlen(name) && strncasecmp(element, name, n) == 0;
}

bool console_accepts(const char *header, const char *name)
{
    bool wildcard = false;

    for (const char *p = header; p && *p; p += *p == ',') {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, ",");

        if (element_is(p, len, name))
            return weight_allows(p, len);
        if (element_is(p, len, "*") && weight_allows(p, len))
            wildcard = true;
        p += len;
    }
    return wildcard;
}

static enum console_encoding choose_encoding(const struct console_file *file, const char *accept_encoding)
{
    for (int e = CONSOLE_BROTLI; e > CONSOLE_PLAIN; e--)
        if (file->at[e].len > 0 && console_accepts(accept_encoding, encoding_names[e]))
            return (enum console_encoding)e;
    return CONSOLE_PLAIN;
}

/* If-None-Match: a list of tags, weak or not, or a star. */
static bool tag_is_known(const char *if_none_match, const char *etag)
{
    size_t n = strlen(etag);

    for (const char *p = if_none_match; p && *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " \t");
        if (*p == '*')
            return true;
        if (strncmp(p, "W/", 2) == 0)
            p += 2;
        if (strncmp(p, etag, n) == 0 && p[n + strspn(p + n, " \t")] != '"' &&
            (!p[n + strspn(p + n, " \t")] || p[n + strspn(p + n, " \t")] == ','))
            return true;
    }
    return false;
}

/* ---- which file ---- */

static const struct console_file *file_at(const struct console_file *files, size_t count, const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    return NULL;
}

/* What the API serves, or may serve one day, and files of the console that are not there (any more). */
static bool is_page(const char *path)
{
    static const char *const others[] = {"/api/", "/assets/", "/healthz", "/readyz", "/metrics"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strncmp(path, others[i], strlen(others[i])) == 0)
            return false;
    return path[0] == '/' && strcmp(path, "/api") != 0;
}

static const struct console_file *choose_file(
    const struct console_file *files, size_t count, const struct console_request *request)
{
    const struct console_file *file = file_at(files, count, request->path);

    if (file || !is_page(request->path))
        return file;
    if (strcmp(request->path, "/") == 0 || console_accepts(request->accept, "text/html"))
        return file_at(files, count, INDEX);
    return NULL;
}

static void add(struct console_answer *answer, size_t *n, const char *name, const char *value)
{
    answer->headers[*n].name = name;
    answer->headers[*n].value = value;
    (*n)++;
}

static void add_headers(struct console_answer *answer, const struct console_file *file, enum console_encoding encoding)
{
    size_t n = 0;

    add(answer, &n, "ETag", answer->etag);
    add(answer, &n, "Vary", file->immutable ? "Accept-Encoding" : "Accept, Accept-Encoding");
    add(answer, &n, "Cache-Control", file->immutable ? "public, max-age=31536000, immutable" : "no-cache");
    if (answer->status == 200) {
        add(answer, &n, "Content-Type", file->type);
        if (encoding != CONSOLE_PLAIN)
            add(answer, &n, "Content-Encoding", encoding_names[encoding]);
    }
    add(answer, &n, "Content-Security-Policy", POLICY);
    add(answer, &n, "Cross-Origin-Opener-Policy", "same-origin");
    add(answer, &n, "Cross-Origin-Resource-Policy", "same-origin");
    add(answer, &n, "Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()");
}

bool console_find(const struct console_file *files, size_t count, const unsigned char *blob,
    const struct console_request *request, struct console_answer *ret_answer)
{
    const struct console_file *file;
    enum console_encoding encoding;

    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0)
        return false;
    if (!(file = choose_file(files, count, request)))
        return false;
    encoding = choose_encoding(file, request->accept_encoding);
    *ret_answer = (struct console_answer){
        .status = 200, .body = blob + file->at[encoding].offset, .body_len = file->at[encoding].len};
    (void)snprintf(ret_answer->etag, sizeof(ret_answer->etag), "\"%.32s-%s\"", file->tag, encoding_names[encoding]);
    if (tag_is_known(request->if_none_match, ret_answer->etag)) {
        ret_answer->status = 304;
        ret_answer->body_len = 0;
    }
    add_headers(ret_answer, file, encoding);
    return true;
}
