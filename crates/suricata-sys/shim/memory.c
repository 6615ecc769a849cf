/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Memory that is free but not given back to the system. */
#include <malloc.h>

#include "internal.h"

/* The C library keeps what was freed in the middle of its heaps, one for some threads each, until it is told. */
void mgs_give_memory_back(void)
{
    malloc_trim(0);
}
