/* SPDX-License-Identifier: Apache-2.0
 *
 * `leeward-vault salvage`: a machine whose log has a hole.
 */
#ifndef TRANSPORT_VAULT_SALVAGECOMMAND_H
#define TRANSPORT_VAULT_SALVAGECOMMAND_H

/* argv[0] is the word itself. The exit status. */
int salvagecommand_main(int argc, char **argv);

#endif
