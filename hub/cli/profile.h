/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the hub is and who asks: command line, then environment (LEEWARD_URL, LEEWARD_TOKEN, LEEWARD_CA,
 * LEEWARD_PROFILE), then the profile in $XDG_CONFIG_HOME/leeward/config.json (0600), which `leeward login` writes.
 */
#ifndef HUB_CLI_PROFILE_H
#define HUB_CLI_PROFILE_H

#include "hub/cli/client.h"
#include "hub/cli/command.h"

/* A client for the settings that hold for line; ERR_INVALID with a correction when nobody said where the hub is. */
int profile_client(const struct command_line *line, struct client **ret_client, struct err *err);
/* Stores settings under the name and makes it the current profile. */
int profile_save(const char *name, const struct client_settings *settings, struct err *err);
/* Profiles as {"name", "url", "ca", "current"}, without their tokens; caller: json_decref. */
int profile_list(json_t **ret_items, struct err *err);
/* Makes a profile the current one, or removes it; ERR_NOT_FOUND. */
int profile_change(const char *name, bool remove, struct err *err);
/* The first line of a file, without its end; caller frees. */
int profile_read_secret(const char *path, char **ret_text, struct err *err);

#endif
