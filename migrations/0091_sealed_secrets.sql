-- SPDX-License-Identifier: Apache-2.0
--
-- Secrets of channels are sealed (hub/db/secret_box.h). What is there already lies in the clear: each hub seals it when it starts.

ALTER TABLE alert_channels ADD COLUMN secret_sealed boolean NOT NULL DEFAULT false;
ALTER TABLE alert_channels ALTER COLUMN secret_sealed SET DEFAULT true;
ALTER TABLE alert_channels ADD CHECK (NOT secret_sealed OR secret = '' OR secret LIKE 'lws1:%');
