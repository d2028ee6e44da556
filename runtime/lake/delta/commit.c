/* One attempt at one version, and what follows when it is lost. */
#include "lake/delta/commit.h"
#include "lake/delta/follow.h"
#include "lake/delta/maintain.h"
#include "lake/delta/mapping.h"
#include "lake/delta/row_tracking.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "core/clock.h"
#include "core/log.h"
#include "lake/delta/table_state.h"

#define COMMIT_BYTES_MAX ((size_t)1 << 30)
#define BACKOFF_MIN_US 500
#define BACKOFF_MAX_US 1000000
#define STALE_NS (600ll * 1000000000)

int delta_uuid(char out[DELTA_UUID_BYTES], struct weir_error *err) {
    uint8_t b[16];
    if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b)) {
        return weir_error_set(err, WEIR_E_ENVIRONMENT, "the system gives no random bytes");
    }
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
    char *at = out;
    for (int i = 0; i < 16; i++) {
        static const char hex[] = "0123456789abcdef";
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        *at++ = hex[b[i] >> 4];
        *at++ = hex[b[i] & 15];
    }
    *at = '\0';
    return WEIR_OK;
}

/* --- one attempt --------------------------------------------------------------------------- */

static int put_string(struct weir_buffer *out, const char *name, const char *value) {
    int rc = weir_buffer_printf(out, ",\"%s\":", name);
    return rc == WEIR_OK ? weir_delta_json_string(out, value, strlen(value)) : rc;
}

static int format_commit(struct weir_buffer *out, const struct weir_delta_table *table,
                         const struct delta_commit_body *body, const struct weir_delta_txn *txn,
                         int64_t now_ms, bool in_commit_timestamp, const char *txn_id) {
    int rc = weir_buffer_append_text(out, "{\"commitInfo\":{");
    if (rc == WEIR_OK && in_commit_timestamp) {
        rc = weir_buffer_printf(out, "\"inCommitTimestamp\":%" PRId64 ",", now_ms);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out, "\"timestamp\":%" PRId64, now_ms);
    }
    if (rc == WEIR_OK) {
        rc = put_string(out, "operation", body->operation);
    }
    if (rc == WEIR_OK && body->parameters_json != NULL) {
        rc = weir_buffer_printf(out, ",\"operationParameters\":%s", body->parameters_json);
    } else if (rc == WEIR_OK && txn != NULL && txn->app_id != NULL) {
        rc = weir_buffer_append_text(out, ",\"operationParameters\":{\"outputMode\":\"Append\"");
        if (rc == WEIR_OK) {
            rc = put_string(out, "queryId", txn->app_id);
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_printf(out, ",\"epochId\":\"%" PRId64 "\"}", txn->version);
        }
    } else if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(out, ",\"operationParameters\":{\"mode\":\"Append\"}");
    }
    if (rc == WEIR_OK && table->snapshot != NULL) {
        rc = weir_buffer_printf(out, ",\"readVersion\":%" PRId64, table->snapshot->version);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out,
                                ",\"isolationLevel\":\"Serializable\",\"isBlindAppend\":%s,"
                                "\"operationMetrics\":",
                                body->blind ? "true" : "false");
    }
    if (rc == WEIR_OK && body->metrics_json != NULL) {
        rc = weir_buffer_append_text(out, body->metrics_json);
    } else if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out,
                                "{\"numFiles\":\"%d\",\"numOutputRows\":\"%" PRId64
                                "\",\"numOutputBytes\":\"%" PRId64 "\"}",
                                body->file_count, body->row_count, body->byte_count);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(
            out, ",\"engineInfo\":\"weir/" WEIR_VERSION "\",\"txnId\":\"%s\"}}\n", txn_id);
    }
    if (rc == WEIR_OK && txn != NULL && txn->app_id != NULL) {
        rc = weir_buffer_append_text(out, "{\"txn\":{\"appId\":");
        if (rc == WEIR_OK) {
            rc = weir_delta_json_string(out, txn->app_id, strlen(txn->app_id));
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_printf(out, ",\"version\":%" PRId64 ",\"lastUpdated\":%" PRId64 "}}\n",
                                    txn->version, now_ms);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append(out, body->actions->data, body->actions->size) : rc;
}

struct own_commit {
    const char *txn_id;
    bool same;
};

static int compare_txn_id(void *context, const struct weir_delta_commit_info *info,
                          struct weir_error *err) {
    struct own_commit *own = context;
    (void)err;
    own->same = info->txn_id != NULL && strcmp(info->txn_id, own->txn_id) == 0;
    return WEIR_OK;
}

/* A put failed without saying whether it took place: the entry itself says. */
static int resolve(struct weir_delta_table *table, const char *path, const char *txn_id, int put_rc,
                   struct weir_error *err) {
    struct weir_buffer bytes;
    struct own_commit own = {txn_id, false};
    const struct weir_delta_action_visitor visitor = {.context = &own,
                                                      .commit_info = compare_txn_id};
    struct weir_error inner;
    weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
    weir_error_clear(&inner);
    int rc = weir_store_get(table->store, path, 0, -1, &bytes, &inner);
    if (rc == WEIR_OK) {
        rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &visitor, &inner);
    }
    weir_buffer_fini(&bytes);
    if (rc == WEIR_OK && !own.same) {
        return weir_error_set(err, WEIR_E_CONFLICT, "%s was taken by another writer", path);
    }
    if (rc == WEIR_OK) {
        char *log = delta_log_path(table->dir, "%s", "");
        rc = log != NULL ? weir_store_sync_dir(table->store, log, &inner) : WEIR_E_NOMEM;
        free(log);
        if (rc == WEIR_OK) {
            return WEIR_OK;
        }
    }
    return put_rc; /* err still holds what the put said */
}

int delta_commit_try(struct weir_delta_table *table, const struct delta_commit_body *body,
                     const struct weir_delta_txn *txn, int64_t *timestamp_ms,
                     struct weir_error *err) {
    char txn_id[DELTA_UUID_BYTES];
    struct weir_buffer text;
    struct weir_error own_error;
    struct weir_error *e = err != NULL ? err : &own_error;
    const struct weir_delta_snapshot *snapshot = table->snapshot;
    int64_t version = snapshot != NULL ? snapshot->version + 1 : 0;
    int64_t now_ms = weir_clock_wall_us() / 1000;
    bool in_commit = false;
    if (snapshot != NULL) {
        const char *enabled =
            weir_delta_metadata_property(&snapshot->metadata, "delta.enableInCommitTimestamps");
        in_commit = enabled != NULL && strcmp(enabled, "true") == 0;
        if (in_commit && now_ms <= snapshot->timestamp_ms) {
            now_ms = snapshot->timestamp_ms + 1;
        }
    }
    weir_buffer_init(&text, COMMIT_BYTES_MAX);
    char *path = delta_log_path(table->dir, "%020" PRId64 ".json", version);
    int rc = path != NULL ? delta_uuid(txn_id, e)
                          : weir_error_set(e, WEIR_E_NOMEM, "commit: out of memory");
    if (rc != WEIR_OK) {
        goto out;
    }
    rc = format_commit(&text, table, body, txn, now_ms, in_commit, txn_id);
    if (rc != WEIR_OK) {
        rc = weir_error_set(e, rc, "commit %s: %s", path, weir_error_text(rc));
        goto out;
    }
    rc = weir_store_put_if_absent(table->store, path, text.data, text.size, e);
    if (rc != WEIR_OK && rc != WEIR_E_CONFLICT && rc != WEIR_E_FAULT) {
        rc = resolve(table, path, txn_id, rc, e);
    }
    if (rc != WEIR_OK && rc != WEIR_E_CONFLICT) {
        rc = weir_error_wrap(e, "commit to table %s", table->dir);
    }
    *timestamp_ms = now_ms;
out:
    weir_buffer_fini(&text);
    free(path);
    return rc;
}

/* --- losing a race ------------------------------------------------------------------------- */

static void wait_jittered(struct weir_delta_table *table, int32_t attempt) {
    int64_t limit = BACKOFF_MIN_US;
    for (int32_t i = 1; i < attempt && limit < BACKOFF_MAX_US; i++) {
        limit *= 2;
    }
    table->random = table->random * 6364136223846793005u + 1442695040888963407u;
    int64_t us = (int64_t)((table->random >> 33) % (uint64_t)limit) + 1;
    struct timespec pause = {us / 1000000, (us % 1000000) * 1000};
    nanosleep(&pause, NULL);
}

bool delta_same_type(const struct weir_field *a, const struct weir_field *b) {
    struct weir_buffer left;
    struct weir_buffer right;
    weir_buffer_init(&left, 1u << 20);
    weir_buffer_init(&right, 1u << 20);
    bool same = weir_field_format_type(a, &left) == WEIR_OK &&
                weir_field_format_type(b, &right) == WEIR_OK && left.size == right.size &&
                (left.size == 0 || memcmp(left.data, right.data, left.size) == 0);
    weir_buffer_fini(&left);
    weir_buffer_fini(&right);
    return same;
}

int delta_commit_rebase(struct weir_delta_table *table, int32_t attempt,
                        const struct weir_delta_commit_options *options, struct weir_error *err) {
    if (options != NULL && options->stop != NULL && options->stop(options->stop_context)) {
        return weir_error_set(err, WEIR_E_CLOSED,
                              "commit to table %s given up after %d attempts: stopping", table->dir,
                              attempt);
    }
    if (attempt > 1) {
        wait_jittered(table, attempt);
    }
    int64_t before = table->snapshot->version;
    int rc = weir_delta_table_refresh(table, err);
    if (rc == WEIR_OK && attempt % 100 == 0) {
        weir_log_warn("lake",
                      "commit keeps losing to other writers table=%s attempts=%d version=%" PRId64
                      " gained=%" PRId64,
                      table->dir, attempt, table->snapshot->version,
                      table->snapshot->version - before);
    }
    return rc;
}

int weir_delta_table_refresh(struct weir_delta_table *table, struct weir_error *err) {
    int rc = weir_delta_snapshot_refresh(table->snapshot, err);
    return rc == WEIR_OK ? delta_table_follow(table, err) : rc;
}

/* A table held for long may have lost, to another writer's cleanup, the very entries this snapshot
 * would look at next; version + 1 would then seem free. A listing now and then shows it. */
static int notice_cleanup(struct weir_delta_table *table, struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = table->snapshot;
    if (weir_clock_mono_ns() - snapshot->checked_ns < STALE_NS) {
        return WEIR_OK;
    }
    struct delta_listing listing;
    char start[48];
    snprintf(start, sizeof(start), "%020" PRId64 ".json", snapshot->version);
    int rc = delta_list_log(table->store, table->dir, start, &listing, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool gap = listing.commit_count > 0 && listing.commits[0] != snapshot->version + 1;
    delta_listing_fini(&listing);
    snapshot->checked_ns = weir_clock_mono_ns();
    if (gap) {
        struct weir_delta_snapshot *fresh;
        rc = weir_delta_snapshot_open(table->store, table->dir, NULL, &fresh, err);
        if (rc == WEIR_OK) {
            weir_delta_snapshot_destroy(snapshot);
            table->snapshot = fresh;
            rc = delta_table_follow(table, err);
        }
    }
    return rc;
}

/* --- append -------------------------------------------------------------------------------- */

static int apply_own(struct weir_delta_table *table, struct weir_delta_add *const *adds,
                     int32_t count, const struct weir_delta_txn *txn, int64_t timestamp_ms,
                     struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = table->snapshot;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = delta_apply_add(snapshot, adds[i], err);
    }
    if (rc == WEIR_OK && txn->app_id != NULL) {
        struct weir_delta_txn stamped = {txn->app_id, txn->version, timestamp_ms};
        rc = delta_apply_txn(snapshot, &stamped, err);
    }
    snapshot->version++;
    snapshot->timestamp_ms = timestamp_ms;
    return rc;
}

static bool already_there(const struct weir_delta_table *table, const struct weir_delta_txn *txn) {
    return txn->app_id != NULL &&
           weir_delta_snapshot_txn(table->snapshot, txn->app_id) >= txn->version;
}

int delta_format_adds(const struct weir_delta_table *table, struct weir_delta_add *const *adds,
                      int32_t count, struct delta_commit_body *body, struct weir_buffer *out,
                      struct weir_error *err) {
    body->file_count = count;
    body->row_count = body->byte_count = 0;
    int rc = delta_track_rows(table->snapshot, adds, count, out, err);
    if (rc != WEIR_OK) {
        return weir_error_wrap(err, "commit to table %s", table->dir);
    }
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        int64_t rows = delta_add_rows(adds[i]);
        body->row_count += rows > 0 ? rows : 0;
        body->byte_count += adds[i]->size_bytes;
        rc = weir_delta_add_format(adds[i], out);
        rc = rc == WEIR_OK ? weir_buffer_append(out, "\n", 1) : rc;
        if (rc != WEIR_OK) {
            weir_error_set(err, rc, "commit to table %s: file %.200s: %s", table->dir,
                           adds[i]->path, weir_error_text(rc));
        }
    }
    return rc;
}

int weir_delta_append(struct weir_delta_table *table, struct weir_delta_add *const *adds,
                      int32_t add_count, const struct weir_delta_commit_options *options,
                      struct weir_delta_commit_result *result, struct weir_error *err) {
    static const struct weir_delta_commit_options no_options = {.txn = {NULL, 0, 0}};
    const struct weir_delta_txn *txn = &(options != NULL ? options : &no_options)->txn;
    struct weir_buffer actions;
    struct delta_commit_body body = {.actions = &actions, .blind = true};
    struct weir_delta_commit_result dropped;
    result = result != NULL ? result : &dropped;
    memset(result, 0, sizeof(*result));
    weir_buffer_init(&actions, COMMIT_BYTES_MAX);
    body.operation = options != NULL && options->operation != NULL ? options->operation
                     : txn->app_id != NULL                         ? "STREAMING UPDATE"
                                                                   : "WRITE";
    int rc = notice_cleanup(table, err);
    if (rc != WEIR_OK) {
        goto out;
    }
    for (;;) {
        if (already_there(table, txn)) {
            /* the commit that put it there may have died before its directory was synced */
            char *log = delta_log_path(table->dir, "%s", "");
            rc = log != NULL ? weir_store_sync_dir(table->store, log, err)
                             : weir_error_set(err, WEIR_E_NOMEM, "commit: out of memory");
            free(log);
            result->skipped = rc == WEIR_OK;
            break;
        }
        int64_t timestamp_ms;
        bool tracks = add_count > 0 && delta_gives_row_ids(table->snapshot);
        if (result->attempts == 0 || tracks) { /* row ids follow those of the winners */
            weir_buffer_clear(&actions);
            rc = delta_format_adds(table, adds, add_count, &body, &actions, err);
            if (rc != WEIR_OK) {
                break;
            }
        }
        result->attempts++;
        rc = delta_commit_try(table, &body, txn, &timestamp_ms, err);
        if (rc == WEIR_OK && tracks) {
            const struct weir_delta_action_visitor visitor = {.context = table->snapshot,
                                                              .domain = delta_apply_domain};
            rc = weir_delta_actions_parse((const char *)actions.data, actions.size,
                                          "our own commit", &visitor, err);
        }
        if (rc == WEIR_OK) {
            rc = apply_own(table, adds, add_count, txn, timestamp_ms, err);
            break;
        }
        if (rc == WEIR_E_CONFLICT) {
            rc = delta_commit_rebase(table, result->attempts, options, err);
        }
        if (rc != WEIR_OK) {
            break;
        }
    }
    result->version = table->snapshot->version;
out:
    weir_buffer_fini(&actions);
    return rc;
}
