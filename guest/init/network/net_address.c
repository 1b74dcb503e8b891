/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

int address_parse(const char *text, struct address *address)
{
	char copy[ADDRESS_TEXT_MAX + 1], *slash, *end;
	unsigned long prefix;

	memset(address, 0, sizeof(*address));
	if (strlen(text) >= sizeof(copy))
		return -1;
	strcpy(copy, text);
	slash = strchr(copy, '/');
	if (slash)
		*slash++ = '\0';
	address->family = strchr(copy, ':') ? AF_INET6 : AF_INET;
	address->len = address->family == AF_INET6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
	address->prefix = (unsigned int)address->len * 8;
	if (inet_pton(address->family, copy, address->bytes) != 1)
		return -1;
	if (!slash)
		return 0;
	if (*slash < '0' || *slash > '9')
		return -1;
	prefix = strtoul(slash, &end, 10);
	if (*end || prefix > address->prefix)
		return -1;
	address->prefix = (unsigned int)prefix;
	return 0;
}

int mac_parse(const char *text, unsigned char mac[MAC_LEN])
{
	unsigned int part[MAC_LEN];
	int used = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &part[0], &part[1], &part[2], &part[3], &part[4], &part[5], &used) != MAC_LEN ||
	    text[used] != '\0')
		return -1;
	for (int i = 0; i < MAC_LEN; i++)
		mac[i] = (unsigned char)part[i];
	return 0;
}

void mac_format(const unsigned char mac[MAC_LEN], char text[MAC_TEXT_MAX])
{
	snprintf(text, MAC_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}
