/* One transaction for all requests that wait, and what to do when it fails:
 *
 *   may pass (brokers away, leaders moving)    abort, wait, again
 *   the messages or rights are at fault        abort, say so, stop
 *   in doubt, or the producer is lost          a new producer fences the old one and reads the
 *                                              markers: what is there is not sent again
 *   fenced by another before our time was up   somebody took over: stop */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "sink/kafka_log.h"

enum {
    COMMIT_MS = 500,
    ABORT_MS = 200, /* its reports must be taken in between */
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    DRAIN_MS = 10000,   /* a pipeline that is stopping waits no longer for brokers */
    DOUBTFUL_TRIES = 8, /* of errors that are neither known to pass nor to stay */
};

enum outcome { DONE, AGAIN, REOPEN, FAILED };

struct trying {
    struct kafka_log *log;
    struct kafka_request **group;
    int tries;
    int64_t draining_since_ns;
    bool told;
};

/* --- what a failure means --------------------------------------------------------------------- */

static bool is_permanent(rd_kafka_resp_err_t code) {
    switch (code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
        return true;
    default:
        return false;
    }
}

static bool is_fencing(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
           code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

/* A coordinator fences a producer itself when its transaction lasts too long; before that time only
 * another producer of this id can have. */
static bool taken_over(const struct kafka_log *log) {
    return weir_clock_mono_ns() - log->began_ns < log->timeout_ms * INT64_C(1000000);
}

static enum outcome judge(struct kafka_log *log, rd_kafka_resp_err_t code, const char *reason,
                          bool lost, struct weir_error *err) {
    const char *topic = NULL;
    if (log->failed.code != RD_KAFKA_RESP_ERR_NO_ERROR && !lost) {
        code = log->failed.code;
        topic = log->failed.topic;
        reason = rd_kafka_err2str(code);
    }
    weir_kafka_error(err, &log->client, code, reason,
                     topic != NULL ? "write to topic" : "commit a transaction", topic);
    if (is_fencing(code) && taken_over(log)) {
        weir_error_wrap(err, "transactional id %s", log->id);
        return FAILED;
    }
    return is_permanent(code) ? FAILED : lost ? REOPEN : AGAIN;
}

static enum outcome judge_error(struct kafka_log *log, rd_kafka_error_t *error,
                                struct weir_error *err) {
    enum outcome outcome = judge(log, rd_kafka_error_code(error), rd_kafka_error_string(error),
                                 rd_kafka_error_is_fatal(error) != 0, err);
    rd_kafka_error_destroy(error);
    return outcome;
}

/* --- one try ---------------------------------------------------------------------------------- */

static bool gives_up(struct trying *t) {
    const struct kafka_log *log = t->log;
    if (log->stop(log->stop_context)) {
        return true;
    }
    if (log->draining == NULL || !log->draining(log->stop_context)) {
        return false;
    }
    int64_t now = weir_clock_mono_ns();
    if (t->draining_since_ns == 0) {
        t->draining_since_ns = now;
    }
    return now - t->draining_since_ns > DRAIN_MS * INT64_C(1000000);
}

static enum outcome stopped(struct trying *t, struct weir_error *err) {
    char said[256];
    weir_kafka_client_said(&t->log->client, said, sizeof(said));
    weir_error_set(err, WEIR_E_ENVIRONMENT,
                   "kafka of %s: %s cannot be reached%s%s%s; what was read is in the ledger, and "
                   "its messages go out at the next start",
                   t->log->pipeline, t->log->client.brokers != NULL ? t->log->client.brokers : "it",
                   said[0] != '\0' ? " (" : "", said, said[0] != '\0' ? ")" : "");
    return FAILED;
}

static int send_marker(struct kafka_log *log, const struct kafka_request *request,
                       struct weir_error *err) {
    char key[2 * KAFKA_NAME_BYTES];
    char value[24];
    int key_size = kafka_marker_key(log, request->topic, key, sizeof(key));
    int value_size = snprintf(value, sizeof(value), "%" PRIu64, request->record.record);
    if (rd_kafka_produce(log->markers, 0, RD_KAFKA_MSG_F_COPY, value, (size_t)value_size, key,
                         (size_t)key_size, NULL) == 0) {
        return WEIR_OK;
    }
    return weir_kafka_error(err, &log->client, rd_kafka_last_error(), NULL, "write to topic",
                            log->marker_topic);
}

static int send_request(struct kafka_log *log, struct kafka_request *request,
                        struct weir_error *err) {
    if (log->transactional && request->topic->marker >= request->record.record) {
        return WEIR_OK;
    }
    int rc = kafka_topic_open(log, request->topic, err);
    if (rc == WEIR_OK) {
        rc = kafka_send(log, request->topic, request->record.effect, request->record.size, err);
    }
    if (rc == WEIR_OK && WEIR_FAULT(kafka_sent)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at kafka_sent");
    }
    return rc == WEIR_OK && log->transactional ? send_marker(log, request, err) : rc;
}

/* All requests from *at on, and those that came while they were sent. */
static int send_all(struct trying *t, struct weir_error *err) {
    for (struct kafka_request **at = t->group;; at = &(*at)->next) {
        if (*at == NULL) {
            *at = kafka_log_take(t->log);
        }
        if (*at == NULL) {
            return WEIR_OK;
        }
        int rc = send_request(t->log, *at, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
}

static enum outcome abort_it(struct trying *t, enum outcome then, struct weir_error *err) {
    for (;;) {
        rd_kafka_error_t *error = rd_kafka_abort_transaction(t->log->client.rk, ABORT_MS);
        if (error == NULL) {
            memset(&t->log->failed, 0, sizeof(t->log->failed));
            return then;
        }
        kafka_log_serve(t->log, 0);
        bool again = rd_kafka_error_is_retriable(error);
        bool fenced = is_fencing(rd_kafka_error_code(error));
        rd_kafka_error_destroy(error);
        if (!again) { /* a new producer settles it, unless it is not ours any more */
            return then == FAILED || (fenced && taken_over(t->log)) ? FAILED : REOPEN;
        }
        if (gives_up(t)) {
            return stopped(t, err);
        }
    }
}

static enum outcome commit(struct trying *t, struct weir_error *err) {
    for (;;) {
        rd_kafka_error_t *error = rd_kafka_commit_transaction(t->log->client.rk, COMMIT_MS);
        if (error == NULL) {
            return DONE;
        }
        kafka_log_serve(t->log, 0);
        if (rd_kafka_error_is_retriable(error)) {
            rd_kafka_error_destroy(error);
            if (gives_up(t)) {
                return stopped(t, err);
            }
            continue;
        }
        bool abortable = rd_kafka_error_txn_requires_abort(error) != 0;
        enum outcome outcome = judge_error(t->log, error, err);
        return abortable ? abort_it(t, outcome, err) : outcome == AGAIN ? REOPEN : outcome;
    }
}

/* What kafka_send or a fault refused. */
static enum outcome refused(const struct kafka_log *log, int rc) {
    rd_kafka_resp_err_t code = log->failed.code;
    if (rc == WEIR_E_FAULT || rc == WEIR_E_CLOSED || rc == WEIR_E_CORRUPT || rc == WEIR_E_VERSION ||
        rc == WEIR_E_NOMEM || is_permanent(code)) {
        return FAILED;
    }
    return AGAIN;
}

static enum outcome try_transaction(struct trying *t, struct weir_error *err) {
    struct kafka_log *log = t->log;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(log->client.rk);
    log->began_ns = weir_clock_mono_ns();
    if (error != NULL) {
        enum outcome outcome = judge_error(log, error, err);
        return outcome == AGAIN ? REOPEN : outcome;
    }
    int rc = send_all(t, err);
    if (rc == WEIR_OK && WEIR_FAULT(kafka_marked)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at kafka_marked");
    }
    return rc == WEIR_OK ? commit(t, err) : abort_it(t, refused(log, rc), err);
}

static enum outcome try_plain(struct trying *t, struct weir_error *err) {
    struct kafka_log *log = t->log;
    int rc = send_all(t, err);
    enum outcome outcome = rc == WEIR_OK ? DONE : refused(log, rc);
    while (outcome != FAILED && rd_kafka_flush(log->client.rk, COMMIT_MS) != 0) {
        kafka_log_serve(log, 0);
        if (gives_up(t)) {
            return stopped(t, err);
        }
    }
    kafka_log_serve(log, 0);
    char reason[256] = "";
    rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(log->client.rk, reason, sizeof(reason));
    if (fatal != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return judge(log, fatal, reason, true, err);
    }
    if (log->failed.code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        outcome = judge(log, log->failed.code, NULL, false, err);
        memset(&log->failed, 0, sizeof(log->failed));
    }
    return outcome;
}

/* --- until it is done ------------------------------------------------------------------------- */

static enum outcome reopen(struct trying *t, struct weir_error *err) {
    int rc = kafka_log_open(t->log, err);
    if (rc == WEIR_OK) {
        return AGAIN;
    }
    return rc == WEIR_E_ENVIRONMENT ? REOPEN : FAILED; /* else nothing to wait for */
}

static bool wait_a_little(struct trying *t) {
    int shift = t->tries < 6 ? t->tries : 6;
    int64_t ms = BACKOFF_MIN_MS << shift;
    ms = ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
    int64_t until = weir_clock_mono_ns() + ms * 1000000;
    while (weir_clock_mono_ns() < until) {
        if (gives_up(t)) {
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return true;
}

static void tell(struct trying *t, const struct weir_error *err) {
    if (!t->told || t->tries % 20 == 0) {
        weir_log_warn("sink", "%s; trying again tries=%d", err->message, t->tries);
        t->told = true;
    }
}

static bool may_pass(const struct weir_error *err) {
    return weir_error_class(err->code) == WEIR_CLASS_RETRY || err->code == WEIR_E_ENVIRONMENT;
}

static void note_markers(const struct kafka_log *log, struct kafka_request *group) {
    for (; log->transactional && group != NULL; group = group->next) {
        if (group->record.record > group->topic->marker) {
            group->topic->marker = group->record.record;
        }
    }
}

int kafka_transaction(struct kafka_log *log, struct kafka_request **group, struct weir_error *err) {
    struct trying t = {.log = log, .group = group};
    if (WEIR_FAULT(kafka_before_begin)) {
        return weir_error_set(err, WEIR_E_FAULT, "injected at kafka_before_begin");
    }
    for (enum outcome outcome = log->open ? AGAIN : REOPEN;; t.tries++) {
        bool opening = outcome == REOPEN;
        outcome = opening              ? reopen(&t, err)
                  : log->transactional ? try_transaction(&t, err)
                                       : try_plain(&t, err);
        if (outcome == DONE) {
            note_markers(log, *group);
            if (WEIR_FAULT(kafka_committed)) {
                return weir_error_set(err, WEIR_E_FAULT, "injected at kafka_committed");
            }
            return WEIR_OK;
        }
        if (opening && outcome == AGAIN) {
            continue;
        }
        if (outcome != FAILED && t.tries >= DOUBTFUL_TRIES && !may_pass(err)) {
            outcome = FAILED;
        }
        if (outcome != FAILED) {
            tell(&t, err);
            if (!wait_a_little(&t)) {
                outcome = stopped(&t, err);
            }
        }
        if (outcome == FAILED) {
            kafka_log_close(log); /* nothing may point into effects any more */
            return err != NULL && err->code != WEIR_OK ? err->code : WEIR_E_BUG;
        }
    }
}
