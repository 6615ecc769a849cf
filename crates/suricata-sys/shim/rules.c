/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The one gate through which every rule set passes, at start and at each reload. */
#include "internal.h"

int __real_SigLoadSignatures(DetectEngineCtx *, char *, bool);
int __wrap_SigLoadSignatures(DetectEngineCtx *, char *, bool);

/* Suricata says why a rule is bad in one log line and which rule it was in the next; see log.c. */
extern void mgs_log_watch_rules(int on);

int __wrap_SigLoadSignatures(DetectEngineCtx *de_ctx, char *sig_file, bool exclusive)
{
    const SigFileLoaderStat *stat = &de_ctx->sig_stat;
    int result, refused;

    mgs_log_watch_rules(1);
    result = __real_SigLoadSignatures(de_ctx, sig_file, exclusive);
    mgs_log_watch_rules(0);

    /* Suricata itself is content with no rules at all, and would let everything pass. */
    refused = mgs_sink_rules(stat->good_sigs_total, stat->bad_sigs_total, stat->skipped_sigs_total, stat->total_files,
            stat->bad_files);
    if (result == 0 && !refused)
        return 0;
    if (mgs_booting)
        mgs_give_up(1);
    return -1;
}
