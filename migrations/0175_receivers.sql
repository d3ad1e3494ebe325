-- SPDX-License-Identifier: Apache-2.0
--
-- Other machines that get what a machine's points hold: those that run a rescue system, which are there for nothing else, and the one whose disks
-- are being written now.
ALTER TABLE machines ADD COLUMN rescue boolean NOT NULL DEFAULT false;
ALTER TABLE protections ADD COLUMN receiver_id uuid REFERENCES machines ON DELETE SET NULL;
CREATE INDEX protections_receiver ON protections (receiver_id) WHERE receiver_id IS NOT NULL;
