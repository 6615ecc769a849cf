/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The whole surface between Rust and libsuricata. No Suricata type or name appears here, so a change of the library
 * stays inside this folder. Functions return 0 on success and a negative MGS_* code on failure unless they say otherwise. */
#ifndef MGS_H
#define MGS_H

#include <stddef.h>
#include <stdint.h>

/* Suricata called exit() or a fatal error; the log sink has heard why. */
#define MGS_EXITED (-1)
/* A Suricata function reported failure; the log sink has heard why. */
#define MGS_FAILED (-2)
/* No packet buffer could be had. */
#define MGS_NO_PACKET (-3)

#define MGS_ALERTS_KEPT 16
#define MGS_SEAM_BEFORE 4096
#define MGS_FIELDS 4
#define MGS_FIELD_KEY 32
#define MGS_FIELD_VALUE 160

/* mgs_outcome.flags */
#define MGS_RELEASED (1u << 0)   /* the engine gave the packet back */
#define MGS_INSPECTED (1u << 1)  /* the packet passed detection and reached the loggers */
#define MGS_DROPPED (1u << 2)    /* the verdict */
#define MGS_HAS_FLOW (1u << 3)   /* flow_id is set */
#define MGS_ADDED (1u << 4)      /* the payload went into stream reassembly */
#define MGS_APP_DISABLED (1u << 5) /* application-layer parsing was given up for this flow */
#define MGS_PASSED (1u << 6)     /* a pass rule took the flow out of detection */
#define MGS_NO_PAYLOAD (1u << 7) /* payload inspection is off for this flow (pass, bypass, encrypted) */
#define MGS_BYPASSED (1u << 8)   /* a rule took the flow out of inspection */
#define MGS_UNNEEDED (1u << 9)   /* neither a parser nor a rule has use for the stream, so it is not kept */
#define MGS_READS_MAIL (1u << 10) /* the parser of SMTP takes what the client says next for a mail; see mail.c */
#define MGS_PARSED (1u << 11)    /* a parser has the flow, and had all of it from its beginning */
#define MGS_UNREAD (1u << 12)    /* no rule has use for the bytes of this direction, and so far no parser either */

/* mgs_outcome.loss: the engine went on without looking at something; see losses.c. */
#define MGS_LOST_NOTHING 0
#define MGS_LOST_MEMORY 1  /* an allocation was refused: a memory cap, or no memory */
#define MGS_LOST_CONTENT 2 /* content of a message, or of a file in it, was not kept for the rules */
#define MGS_LOST_STREAM 3  /* data of the stream was not kept for the parser */
#define MGS_LOST_RULE 4    /* a rule gave up on it */

#define MGS_NOTE_NONE 0
#define MGS_NOTE_HTTP1 1 /* what follows on the flow is HTTP/1, whatever it looks like */
#define MGS_NOTE_LAST 2  /* the flow is over, whatever the packet says */
#define MGS_NOTE_END 3   /* no more data: what was held back is to be inspected now */
#define MGS_NOTE_EXPECT 0x10000 /* plus an AppProto: what follows on the flow is that, whatever its ports */

struct mgs_alert {
    uint32_t gid;
    uint32_t sid;
    uint32_t rev;
    int32_t priority;
    uint8_t drop;      /* the rule's action drops */
    uint8_t deciding;  /* this rule condemned the packet */
    uint16_t message_len;
    uint16_t category_len;
    char message[256];
    char category[96];
};

struct mgs_outcome {
    uint32_t flags;
    uint16_t app_proto;
    uint8_t drop_reason;
    uint8_t event_count;      /* stream events on this packet */
    uint8_t event;            /* the first of them; see mgs_event_name */
    uint8_t loss;             /* the first MGS_LOST_* */
    uint32_t alert_count;     /* entries of alerts that are valid; appended to, never reset here */
    uint32_t alerts_lost;     /* alerts beyond MGS_ALERTS_KEPT */
    uint64_t flow_id;
    uint64_t content[2];      /* bytes of HTTP/1 content that were kept for the rules: of requests, of responses */
    struct mgs_alert alerts[MGS_ALERTS_KEPT];
};

/* As levels of mgs_sink_log: an error about a rule that is being read, most likely, and one about the set of rules. */
#define MGS_RULE_ERROR 0
#define MGS_RULES_ERROR (-1)

/* Implemented in Rust. May be called on any engine thread; must not unwind. */
void mgs_sink_log(int level, const char *message, size_t len);
/* What is wrong with it was told just before. */
void mgs_sink_bad_rule(const char *file, int line, const char *rule);
/* All rules were read, or, if `failed`, not. Of the good ones `dropping` drop. Returns 0 to take them into use, anything else to
 * refuse them. */
int mgs_sink_rules(int good, int dropping, int bad, int skipped, int files, int bad_files, int failed);
void mgs_sink_counter(const char *name, uint64_t value);
/* The last counter of one snapshot has been told. */
void mgs_sink_counters_done(void);

typedef struct mgs_worker mgs_worker;

/* --- the engine's main thread; all of these on that one thread, in this order --- */
int mgs_begin(int argc, char **argv, int inline_mode, unsigned workers);
/* What stands for `argument` where it is given as a rule file (-s): these patterns (glob), NULL at the end. All of it
 * stays. */
void mgs_name_rules(const char *argument, const char *const *files);
int mgs_load_yaml(void);
/* The value of a setting as loaded so far, NULL if unset. Valid until the next call here. */
const char *mgs_conf_get(const char *name);
/* Sets a value that nothing later can change. */
int mgs_conf_force(const char *name, const char *value);
/* Takes a setting away, with all below it; 1 if it was there, 0 if not. */
int mgs_conf_remove(const char *name);
/* Gives free memory of the whole process back to the system. Takes milliseconds, in which allocations wait. */
void mgs_give_memory_back(void);
/* A cache of compiled patterns is read, but nothing is put into it. */
void mgs_keep_no_patterns(void);
/* The lane whose flows never appear in EVE. */
void mgs_set_silent_lane(uint64_t lane);
int mgs_init(void);
/* After a failure of this one or of those below the engine is lost: whoever waits in mgs_worker_attach or
 * mgs_worker_finish comes back, and so does whoever comes there later. */
/* Workers must be in mgs_worker_attach by now, each on its own thread. */
int mgs_post_init(void);
/* Returns when mgs_stop was called. */
int mgs_main_loop(void);
/* Workers must be in (or come to) mgs_worker_finish. */
int mgs_shutdown(void);

/* --- any thread --- */
void mgs_stop(void);
int mgs_stopping(void);
/* Asks the main loop for a rule reload; MGS_FAILED if one is under way. */
int mgs_reload_start(void);
int mgs_reload_pending(void);
void mgs_rotate_logs(void);
/* Lines of log files that could not be written. */
uint64_t mgs_lines_lost(void);
const char *mgs_version(void);
const char *mgs_event_name(uint8_t event);
const char *mgs_drop_reason_name(uint8_t reason);
/* After mgs_init only. */
const char *mgs_app_proto_name(uint16_t proto);
uint16_t mgs_app_proto_count(void);

/* --- a worker; attach, packet, idle and finish on one thread --- */
mgs_worker *mgs_worker_at(unsigned index);
int mgs_worker_attach(mgs_worker *worker);
/* Runs one raw IP packet through the engine. `data` stays the caller's and is not kept. `flow_id` is what an earlier
 * packet of the flow reported, 0 if none. `note` is one of MGS_NOTE_*. */
int mgs_worker_packet(mgs_worker *worker, uint8_t *data, uint32_t len, uint64_t lane, uint64_t flow_id, int note,
        struct mgs_outcome *outcome);
/* The next packet's data begin with `framing` bytes that part what belongs together: rules for the stream see `len` bytes
 * at `before` in front of what follows, at most MGS_SEAM_BEFORE. They are copied. */
int mgs_worker_seam(mgs_worker *worker, const uint8_t *before, uint32_t len, uint32_t framing);
void mgs_worker_idle(mgs_worker *worker);
/* Fields added to every EVE record that packets of this worker cause; value_len 0 takes the field away. */
int mgs_worker_field(mgs_worker *worker, unsigned slot, const char *key, size_t key_len, const char *value, size_t value_len);
void mgs_worker_finish(mgs_worker *worker);

#endif
