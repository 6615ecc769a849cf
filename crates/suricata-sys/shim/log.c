/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Suricata's log lines, all of them, go to the sink (linked with --wrap): one log for the whole program. */
#include "internal.h"

#define LINE_MAX_LEN (SC_LOG_MAX_LOG_MSG_LEN)

MGS_IN_FRONT_OF(SCLog);
MGS_IN_FRONT_OF(SCLogErr);
MGS_IN_FRONT_OF(SCLogMessage);
MGS_IN_FRONT_OF(SCFatalErrorOnInitStatic);
void mgs_log_watch_rules(int on);

static const char BAD_RULE[] = "error parsing signature \"%s\" from file %s at line %" PRId32 "";
static const char NO_FILE[] = "Error opening file: \"%s\": %s";
/* The end of the two for a rate filter of one rule that has a threshold, or a detection filter, of its own. */
static const char NO_RATE_FILTER[] = "precedence over the threshold.conf one. Bug #425.";

static _Thread_local int watching_rules;

static void tell(int level, const char *fmt, va_list args) ATTR_FMT_PRINTF(2, 0);
static bool is_loss_of_rules(const char *file, const char *fmt);
static bool loads_rules(void);

void mgs_log_watch_rules(int on)
{
    watching_rules = on;
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
        mgs_sink_bad_rule(rule_file, rule_line, rule);
    } else if (level == SC_LOG_WARNING && is_loss_of_rules(file, fmt)) {
        tell(MGS_RULES_ERROR, fmt, args);
    } else if (watching_rules && level == SC_LOG_ERROR) {
        tell(MGS_RULE_ERROR, fmt, args);
    } else {
        tell(level, fmt, args);
    }
    va_end(args);
}

SCError __wrap_SCLogMessage(const SCLogLevel level, const char *file, const unsigned int line, const char *func,
        const char *module, const char *message)
{
    bool rules = watching_rules && level == SC_LOG_ERROR;

    mgs_sink_log(rules ? MGS_RULE_ERROR : (int)level, message, strlen(message));
    return SC_OK;
}

/* FatalErrorOnInit in Rust, of which data sets are read. It would go on to SCLogErr within its own object. */
void __wrap_SCFatalErrorOnInitStatic(const char *message)
{
    mgs_sink_log(loads_rules() ? MGS_RULES_ERROR : SC_LOG_WARNING, message, strlen(message));
}

/* What Suricata takes for worth a warning, though rules do less for it than they say: a threshold file that the settings
 * name and that is not there (where they name none, nobody wants one), and a rate filter in it that is left out, both of
 * which may have been to drop; and entries of a data set that cannot be read (FatalErrorOnInit), of which the rest may be
 * left out with them. */
static bool is_loss_of_rules(const char *file, const char *fmt)
{
    const char *name = NULL;

    if (watching_rules && strcmp(fmt, NO_FILE) == 0)
        return SCConfGet("threshold-file", &name) == 1;
    if (watching_rules && strstr(fmt, NO_RATE_FILTER) != NULL)
        return true;
    return loads_rules() && strstr(file, "datasets") != NULL;
}

/* Data sets of the YAML come before the rules. */
static bool loads_rules(void)
{
    return watching_rules || mgs_booting;
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
