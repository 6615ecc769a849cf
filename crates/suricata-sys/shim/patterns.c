/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Who may fill the cache of compiled patterns. Suricata tries to whenever it has one, and complains of a folder that it
 * may not write to, as an engine that serves should not. */
#include "internal.h"

static bool keep = true;

void mgs_keep_no_patterns(void)
{
    keep = false;
}

#ifdef BUILD_HYPERSCAN

/* Its header wants Hyperscan's own. */
void __real_HSSaveCacheIterator(void *, void *);
void __wrap_HSSaveCacheIterator(void *, void *);

/* Called for each compiled group of patterns when rules have been loaded. */
void __wrap_HSSaveCacheIterator(void *database, void *all)
{
    if (keep)
        __real_HSSaveCacheIterator(database, all);
}

#endif
