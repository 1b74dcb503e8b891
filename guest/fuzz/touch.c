/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the orders of the host's watcher: what is taken for one is in its bounds, names nothing outside its folder, and is written as it was read. */
#include <stdlib.h>
#include <string.h>

#include "touch_order.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct touch_order order;
	uint8_t again[TOUCH_ORDER_MAX];

	if (touch_order_read(data, size, &order) < 0)
		return 0;
	if (order.id >= TOUCH_FOLDERS_MAX || order.base >= TOUCH_FOLDERS_MAX || order.name_len > TOUCH_NAME_MAX || strlen(order.name) != order.name_len ||
	    strchr(order.name, '/') || strcmp(order.name, "..") == 0)
		abort();
	if (touch_order_write(&order, again) != size || memcmp(again, data, size) != 0)
		abort();
	return 0;
}
