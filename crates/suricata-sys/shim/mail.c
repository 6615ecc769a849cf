/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Mail. Suricata looks for files only in what its parser of SMTP takes for a mail, and servers differ from it in that:
 * so it is told what the parser is at. Of a mail it takes for files only parts with a name that is written in one
 * certain way, and whoever reads the mail does not care, nor whether it is a file or a text: so such parts are given what
 * they lack. */
#include "internal.h"
#include "app-layer-smtp.h"

MGS_IN_FRONT_OF(SCSmtpMimeParseLine);

/* As app-layer-smtp.c has them. Should they change, no mail would be read any more, which tests notice. */
#define COMMAND_DATA 2
#define STATE_DATA_MODE 0x01

bool mgs_reads_mail(const Flow *f)
{
    const SMTPState *state = f->alstate;

    return f->alproto == ALPROTO_SMTP && state != NULL && state->current_command == COMMAND_DATA &&
           (state->parser_state & STATE_DATA_MODE) != 0 && state->curr_tx != NULL &&
           state->curr_tx->mime_state != NULL;
}

static void complete_head(MimeStateSMTP *mime);
static bool begins(const uint8_t *value, uint32_t len, const char *with);
static uint32_t blanks(const uint8_t *value, uint32_t len);
static void add_field(MimeStateSMTP *mime, const char *name, const uint8_t *value, uint32_t len);

MimeSmtpParserResult __wrap_SCSmtpMimeParseLine(
        const uint8_t *input, uint32_t len, uint8_t delim_len, uint32_t *warnings, MimeStateSMTP *mime)
{
    if (len == 0 && SCMimeSmtpGetState(mime) == MimeSmtpHeader)
        complete_head(mime);
    return __real_SCSmtpMimeParseLine(input, len, delim_len, warnings, mime);
}

/* Of a mail, or of a part of one. Of fields that come twice the first name counts, and the last coding and boundary, so
 * that what is added is in force only where it is lacking. */
static void complete_head(MimeStateSMTP *mime)
{
    static const char *const codings[] = { "base64", "quoted-printable" };
    static const char message[] = "message/";
    const uint8_t *type = NULL, *coding;
    uint32_t len = 0, coding_len;

    if (SCMimeSmtpGetHeader(mime, "content-transfer-encoding", &coding, &coding_len)) {
        /* On a line of its own it has blanks before it. */
        const uint32_t before = blanks(coding, coding_len);
        coding += before;
        coding_len -= before;
        for (size_t i = 0; i < ARRAY_SIZE(codings); i++) {
            const uint32_t exact = (uint32_t)strlen(codings[i]);
            if (!begins(coding, coding_len, codings[i]))
                continue;
            /* With a comment behind it, or a blank. */
            const bool has_more = coding_len > exact && strchr(" \t;(", coding[exact]) != NULL;
            if (has_more || (before > 0 && coding_len == exact)) {
                add_field(mime, "Content-Transfer-Encoding: ", (const uint8_t *)codings[i], exact);
                break;
            }
        }
    }
    (void)SCMimeSmtpGetHeader(mime, "content-type", &type, &len);
    const uint32_t before = blanks(type, len);
    type += before;
    len -= before;
    if (begins(type, len, "multipart/")) {
        static const char name[] = "boundary";
        const uint32_t name_len = sizeof(name) - 1;
        /* Names of parameters are the same in any case, and may have blanks behind them, but for Suricata. */
        for (uint32_t at = 0; at + name_len < len; at++) {
            if (!begins(type + at, len - at, name))
                continue;
            uint32_t equals = at + name_len;
            while (equals < len && (type[equals] == ' ' || type[equals] == '\t'))
                equals++;
            if (equals < len && type[equals] == '=') {
                if (equals > at + name_len || memcmp(type + at, name, name_len) != 0)
                    add_field(mime, "Content-Type: multipart/mixed; boundary", type + equals, len - equals);
                return;
            }
        }
    } else if (begins(type, len, message)) {
        if (before > 0 || memcmp(type, message, sizeof(message) - 1) != 0)
            add_field(mime, "Content-Type: message/rfc822", type, 0);
    } else {
        static const uint8_t name[] = "unnamed";
        add_field(mime, "Content-Disposition: attachment; filename=", name, sizeof(name) - 1);
    }
}

static uint32_t blanks(const uint8_t *value, uint32_t len)
{
    uint32_t at = 0;

    while (at < len && (value[at] == ' ' || value[at] == '\t'))
        at++;
    return at;
}

static bool begins(const uint8_t *value, uint32_t len, const char *with)
{
    const size_t with_len = strlen(with);

    return len >= with_len && strncasecmp((const char *)value, with, with_len) == 0;
}

static void add_field(MimeStateSMTP *mime, const char *name, const uint8_t *value, uint32_t len)
{
    uint8_t line[SMTP_LINE_BUFFER_LIMIT];
    const size_t name_len = strlen(name);
    uint32_t warnings;

    len = (uint32_t)MIN(len, sizeof(line) - name_len);
    memcpy(line, name, name_len);
    memcpy(line + name_len, value, len);
    (void)__real_SCSmtpMimeParseLine(line, (uint32_t)name_len + len, 0, &warnings, mime);
}
