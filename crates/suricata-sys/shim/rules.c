/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which rule files there are, and the one gate through which every rule set passes, at start and at each reload. */
#include "internal.h"

#include "detect-engine-register.h"

#include <glob.h>

typedef int glob_error(const char *path, int error);

MGS_IN_FRONT_OF(glob);

MGS_IN_FRONT_OF(SigLoadSignatures);

/* Suricata says why a rule is bad in one log line and which rule it was in the next; see log.c. */
extern void mgs_log_watch_rules(int on);

/* See files.c. */
extern void mgs_look_at_first_bytes(DetectEngineCtx *);

static int refuse_replace(DetectEngineCtx *, Signature *, const char *);

static int dropping(const DetectEngineCtx *);

static const char *rule_argument;
static const char *const *rule_files;

void mgs_name_rules(const char *argument, const char *const *files)
{
    rule_argument = argument;
    rule_files = files;
}

/* Suricata takes one rule file from its command line, or a pattern. Here it gets any number of them, under their real
 * names, since rules may name other files relative to theirs. */
int __wrap_glob(const char *pattern, int flags, glob_error *on_error, glob_t *found)
{
    int result = GLOB_NOMATCH;

    if (rule_argument == NULL || strcmp(pattern, rule_argument) != 0)
        return __real_glob(pattern, flags, on_error, found);
    for (size_t i = 0; rule_files[i] != NULL; i++) {
        result = __real_glob(rule_files[i], i == 0 ? flags : flags | GLOB_APPEND, on_error, found);
        if (result != 0) {
            if (i > 0)
                globfree(found);
            break;
        }
    }
    return result;
}

int __wrap_SigLoadSignatures(DetectEngineCtx *de_ctx, char *sig_file, bool exclusive)
{
    const SigFileLoaderStat *stat = &de_ctx->sig_stat;
    int result, refused;

    if (EngineModeIsIPS())
        sigmatch_table[DETECT_REPLACE].Setup = refuse_replace;
    mgs_log_watch_rules(1);
    result = __real_SigLoadSignatures(de_ctx, sig_file, exclusive);
    mgs_log_watch_rules(0);
    mgs_look_at_first_bytes(de_ctx);

    /* Suricata itself is content with no rules at all, and would let everything pass. */
    refused = mgs_sink_rules(stat->good_sigs_total, dropping(de_ctx), stat->bad_sigs_total, stat->skipped_sigs_total,
            stat->total_files, stat->bad_files, result != 0);
    if (result == 0 && !refused)
        return 0;
    if (mgs_booting)
        mgs_give_up(1);
    return -1;
}

/* A set can be good and stop nothing: rules as they are published mostly alert. */
static int dropping(const DetectEngineCtx *de_ctx)
{
    int count = 0;

    for (const Signature *s = de_ctx->sig_list; s != NULL; s = s->next)
        count += (s->action & ACTION_DROP) != 0;
    return count;
}

/* Our packets are copies of what is passed on. Suricata takes such a rule for one that only alerts. */
static int refuse_replace(DetectEngineCtx *de_ctx, Signature *s, const char *bytes)
{
    SCLogError("replace: what is passed on cannot be changed here: drop it, or take the keyword out");
    return -1;
}
