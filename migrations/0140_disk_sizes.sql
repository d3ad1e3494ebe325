-- SPDX-License-Identifier: Apache-2.0
--
-- What became of a disk's size: the one before the last change that an inventory told, and when. NULL: it has never changed.
ALTER TABLE disks ADD COLUMN previous_size_bytes bigint, ADD COLUMN resized_at timestamptz;
