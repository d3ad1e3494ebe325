-- SPDX-License-Identifier: Apache-2.0
--
-- How far the clocks of nodes and vaults are ahead of the hub's, as they said when their session began; machines have it already. A vault's
-- clock decides when points were committed and are old enough to go.
ALTER TABLE nodes ADD COLUMN clock_skew_usec bigint NOT NULL DEFAULT 0;
ALTER TABLE vaults ADD COLUMN clock_skew_usec bigint NOT NULL DEFAULT 0;
