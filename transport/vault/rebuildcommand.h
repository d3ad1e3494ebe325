/* SPDX-License-Identifier: Apache-2.0
 *
 * leeward-vault rebuild --from URL --data DIR: the command around rebuild.h.
 */
#ifndef TRANSPORT_VAULT_REBUILDCOMMAND_H
#define TRANSPORT_VAULT_REBUILDCOMMAND_H

/* argv[0] is "rebuild". The exit status: 0; 1 with a line on standard error. */
int rebuildcommand_main(int argc, char **argv);

#endif
