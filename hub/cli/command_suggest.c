/* SPDX-License-Identifier: Apache-2.0
 *
 * What somebody may have meant: the word that takes the fewest changes of letters, if those are few. Swapped neighbours count as one
 * change (optimal string alignment).
 */
#include "hub/cli/command.h"

#include <string.h>

#define WORD_MAX 48u

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;

    return ab < c ? ab : c;
}

static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t n = strlen(a), m = strlen(b);

    if (n > WORD_MAX || m > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = rows[i % 3], *before = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = least(before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1 < now[j])
                now[j] = two[j - 2] + 1;
        }
    }
    return rows[n % 3][m];
}

/* Whether `word` is nearer than the best so far, and near at all. */
static bool is_nearer(const char *given, const char *word, unsigned *best)
{
    unsigned d = distance(given, word), most = (unsigned)(strlen(given) / 3) + 1;

    if (d > most || d >= *best)
        return false;
    *best = d;
    return true;
}

const char *command_suggest(const char *given)
{
    const char *found = NULL;
    unsigned best = WORD_MAX;

    for (size_t i = 0; i < command_count; i++)
        if (is_nearer(given, commands[i].words, &best))
            found = commands[i].words;
    return found;
}

const char *command_suggest_group(const char *given, size_t *ret_len)
{
    const char *found = NULL;
    unsigned best = WORD_MAX;
    size_t n = strlen(given);

    for (size_t i = 0; i < command_count; i++) {
        const char *words = commands[i].words;
        char first[WORD_MAX + 1] = {0};
        size_t len = strcspn(words, " ");

        if (len > WORD_MAX)
            continue;
        memcpy(first, words, len);
        /* The beginning of a word is nearer than any other word. */
        if ((n > 1 && n < len && strncmp(first, given, n) == 0 && best > 0 && (best = 0, true)) ||
            is_nearer(given, first, &best)) {
            found = words;
            *ret_len = len;
        }
    }
    return found;
}

const char *command_suggest_option(const struct command *command, const char *given)
{
    const struct command_option *lists[] = {
        command ? command->options : NULL, command && command_is_list(command) ? list_options : NULL, global_options};
    const char *found = NULL;
    unsigned best = WORD_MAX;

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct command_option *o = lists[i]; o && o->name; o++)
            if (is_nearer(given, o->name, &best))
                found = o->name;
    return found;
}
