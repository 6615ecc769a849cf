/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Suricata's log lines, all of them, go to the sink (linked with --wrap): one log for the whole program. */
#include "internal.h"

#define LINE_MAX_LEN (SC_LOG_MAX_LOG_MSG_LEN)

void __wrap_SCLog(int level, const char *file, const char *func, const int line, const char *module, const char *fmt,
        ...) ATTR_FMT_PRINTF(6, 7);
void __wrap_SCLogErr(int level, const char *file, const char *func, const int line, const char *module,
        const char *fmt, ...) ATTR_FMT_PRINTF(6, 7);
SCError __wrap_SCLogMessage(const SCLogLevel level, const char *file, const unsigned int line, const char *func,
        const char *module, const char *message);
void mgs_log_watch_rules(int on);

static const char BAD_RULE[] = "error parsing signature \"%s\" from file %s at line %" PRId32 "";

static _Thread_local int watching_rules;
static _Thread_local char reason[1024];

static void tell(int level, const char *fmt, va_list args) ATTR_FMT_PRINTF(2, 0);

void mgs_log_watch_rules(int on)
{
    watching_rules = on;
    reason[0] = '\0';
}

void __wrap_SCLog(int level, const char *file, const char *func, const int line, const char *module, const char *fmt,
        ...)
{
    va_list args;
    va_start(args, fmt);
    tell(level, fmt, args);
    va_end(args);
}

void __wrap_SCLogErr(int level, const char *file, const char *func, const int line, const char *module,
        const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (watching_rules && strcmp(fmt, BAD_RULE) == 0) {
        const char *rule = va_arg(args, const char *);
        const char *rule_file = va_arg(args, const char *);
        int rule_line = va_arg(args, int);
        mgs_sink_bad_rule(rule_file, rule_line, rule, reason);
        reason[0] = '\0';
    } else if (watching_rules && level == SC_LOG_ERROR) {
        char text[sizeof(reason)];
        va_list copy;
        va_copy(copy, args);
        vsnprintf(text, sizeof(text), fmt, copy);
        va_end(copy);
        /* The first complaint is the cause, later ones are its echo. */
        if (reason[0] == '\0')
            memcpy(reason, text, sizeof(reason));
    } else {
        tell(level, fmt, args);
    }
    va_end(args);
}

SCError __wrap_SCLogMessage(const SCLogLevel level, const char *file, const unsigned int line, const char *func,
        const char *module, const char *message)
{
    if (watching_rules && level == SC_LOG_ERROR) {
        if (reason[0] == '\0')
            strlcpy(reason, message, sizeof(reason));
    } else {
        mgs_sink_log((int)level, message, strlen(message));
    }
    return SC_OK;
}

static void tell(int level, const char *fmt, va_list args)
{
    char text[LINE_MAX_LEN];
    int len;

    if (level > SC_LOG_CONFIG)
        return;
    len = vsnprintf(text, sizeof(text), fmt, args);
    if (len < 0)
        return;
    mgs_sink_log(level, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}
