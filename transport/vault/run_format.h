/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte offsets of run files, shared by run_write.c and run_read.c alone; FORMAT.md explains them.
 */
#ifndef TRANSPORT_VAULT_RUN_FORMAT_H
#define TRANSPORT_VAULT_RUN_FORMAT_H

#define RUN_MAGIC "LWRUN\0\0\1"
#define RUN_MAGIC_SIZE 8u

#define RUN_H_MACHINE 8u
#define RUN_H_FIRST 24u
#define RUN_H_LAST 32u
#define RUN_H_TOPS 40u
#define RUN_H_HISTORY 48u
#define RUN_H_KIND 56u
#define RUN_H_ID 64u
#define RUN_H_CHECK 72u

#define RUN_B_CHECK 0u
#define RUN_B_NUMBER 4u
#define RUN_B_COUNT 8u

#define RUN_E_KEY 0u
#define RUN_E_SEQUENCE 8u
#define RUN_E_SECTORS 16u
#define RUN_E_SEGMENT 20u
#define RUN_E_OFFSET 24u
#define RUN_E_FLAGS 28u
#define RUN_E_DEAD 32u

#endif
