-- SPDX-License-Identifier: Apache-2.0
-- Who has not reached what is wished of it: asked whenever a wish changes, hundreds of times while a fleet is being protected, and nearly
-- always the answer is a handful of rows.
CREATE INDEX machines_behind ON machines (id) WHERE desired_version <> converged_version;
