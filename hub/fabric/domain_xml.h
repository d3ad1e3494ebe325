/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica as a libvirt domain: spec and config (hub/fabric/compute.h) to the XML that libvirt defines, and back to what a disk's URI means. Pure.
 */
#ifndef HUB_FABRIC_DOMAIN_XML_H
#define HUB_FABRIC_DOMAIN_XML_H

#include <jansson.h>

#include "transport/base/err.h"

#define DOMAIN_NAME_SIZE 96

/* "leeward-MACHINE-1a2b3c4d": the machine's name with odd characters replaced, and the beginning of the failover's id. */
void domain_name(const json_t *spec, char ret_name[DOMAIN_NAME_SIZE]);

/* The socket's path and the export's name in "nbd+unix:///NAME?socket=PATH", percent escapes undone; both are freed by the caller. ERR_INVALID. */
int domain_disk_source(const char *uri, char **ret_socket, char **ret_export, struct err *err);

/* How a network forwards, as its XML (libvirt.org/formatnetwork.html) says: "" for one that is isolated, NULL for XML that cannot be read. The text is freed by
 * the caller. */
char *domain_network_forward(const char *network_xml);

/* The domain's XML; freed by the caller. kvm: the host has hardware virtualization. */
int domain_xml(const json_t *config, const json_t *spec, bool kvm, char **ret_xml, struct err *err);

#endif
