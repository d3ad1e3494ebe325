# SPDX-License-Identifier: Apache-2.0
#
# Read by cpack when the version is known: the vault's store and the plugin that reads it are of one version.
set(CPACK_DEBIAN_VAULT_PACKAGE_DEPENDS
    "${CPACK_DEBIAN_VAULT_PACKAGE_DEPENDS}, leeward-nbd (= ${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})")
