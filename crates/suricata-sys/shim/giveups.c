/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Where a rule gives up on what it looks at, and Suricata takes that for no match. docs/limits.md lists them. */
#include "internal.h"
#include "detect-engine-alert.h"

/* Steps of one match, and how deep the interpreter goes. Suricata has 3,500 and 1,500, whatever the YAML says, but for
 * rules that ask for its numbers. This many take about a millisecond. */
#define MATCH_LIMIT 50000
#define DEPTH_LIMIT 5000

/* Suricata leaves compiled expressions 32 KB of stack. */
#define STACK_LEAST (32 << 10)
#define STACK_MOST (1 << 20)

MGS_IN_FRONT_OF(pcre2_match_8);
MGS_IN_FRONT_OF(pcre2_set_match_limit_8);
MGS_IN_FRONT_OF(pcre2_set_recursion_limit_8);
MGS_IN_FRONT_OF(DetectEngineSetEvent);
MGS_IN_FRONT_OF(AlertQueueAppend);

static _Thread_local pcre2_jit_stack *stack;

static pcre2_jit_stack *stack_of_thread(void *unused);

int __wrap_pcre2_match_8(const pcre2_code *code, PCRE2_SPTR subject, PCRE2_SIZE length, PCRE2_SIZE start,
        uint32_t options, pcre2_match_data *data, pcre2_match_context *context)
{
    int result = __real_pcre2_match_8(code, subject, length, start, options, data, context);

    switch (result) {
        case PCRE2_ERROR_HEAPLIMIT:
        case PCRE2_ERROR_JIT_STACKLIMIT:
        case PCRE2_ERROR_MATCHLIMIT:
        case PCRE2_ERROR_NOMEMORY:
        case PCRE2_ERROR_RECURSIONLIMIT:
            mgs_lost(MGS_LOST_RULE);
    }
    return result;
}

/* Called once for each expression. */
int __wrap_pcre2_set_match_limit_8(pcre2_match_context *context, uint32_t limit)
{
    pcre2_jit_stack_assign(context, stack_of_thread, NULL);
    return __real_pcre2_set_match_limit_8(context, MAX(limit, MATCH_LIMIT));
}

int __wrap_pcre2_set_recursion_limit_8(pcre2_match_context *context, uint32_t limit)
{
    return __real_pcre2_set_recursion_limit_8(context, MAX(limit, DEPTH_LIMIT));
}

/* It stays as long as the thread, which is a worker's. */
static pcre2_jit_stack *stack_of_thread(void *unused)
{
    if (stack == NULL)
        stack = pcre2_jit_stack_create(STACK_LEAST, STACK_MOST, NULL);
    return stack;
}

/* More buffers of one kind in a transaction than detection takes, such as files of a form: the others are not looked
 * at. */
void __wrap_DetectEngineSetEvent(DetectEngineThreadCtx *detection, uint8_t event)
{
    if (event == DETECT_EVENT_TOO_MANY_BUFFERS || event == DETECT_EVENT_POST_MATCH_QUEUE_FAILED)
        mgs_lost(MGS_LOST_RULE);
    __real_DetectEngineSetEvent(detection, event);
}

/* More matches in one packet than there is room for, 65535 of them: what such a rule is to do is not done. */
void __wrap_AlertQueueAppend(DetectEngineThreadCtx *detection, const Signature *s, Packet *p, uint64_t tx, uint8_t flags)
{
    uint16_t discarded = p->alerts.discarded;

    __real_AlertQueueAppend(detection, s, p, tx, flags);
    if (unlikely(p->alerts.discarded != discarded))
        mgs_lost(MGS_LOST_RULE);
}
