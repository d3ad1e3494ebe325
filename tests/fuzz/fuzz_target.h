/* SPDX-License-Identifier: Apache-2.0
 *
 * The one function of a fuzz target, as libFuzzer calls it. Included by the build in front of every target.
 */
#ifndef TESTS_FUZZ_FUZZ_TARGET_H
#define TESTS_FUZZ_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
