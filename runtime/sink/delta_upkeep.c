#include "sink/delta_upkeep.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/thread.h"
#include "lake/upkeep/optimize.h"
#include "lake/upkeep/tier.h"
#include "lake/upkeep/vacuum.h"

#define TARGET_BYTES ((int64_t)128 << 20)
#define RUN_BYTES ((int64_t)1 << 30) /* of input, at most */
#define WRITER_BYTES ((size_t)32 << 20)
#define ORDER_BYTES ((size_t)64 << 20)
#define LAYOUT_BYTES ((size_t)256 << 20)
#define LAYOUT_TARGET_BYTES ((int64_t)400 << 20)
#define SECOND_NS INT64_C(1000000000)
#define EXPIRE_NS (60 * SECOND_NS)
#define VACUUM_NS (24 * 3600 * SECOND_NS)
#define TIER_NS (600 * SECOND_NS)
#define FIRST_VACUUM_NS (3600 * SECOND_NS)
enum { FILES_MIN = 20, ORDERED_MIN = 4, CPU_PERCENT = 20 };

struct delta_upkeep {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    pthread_t checkpointer;
    struct delta_upkept *tables;
    struct delta_upkept *working;       /* on this one */
    struct delta_upkept *checkpointing; /* this one */
    bool stop;
    bool (*draining)(void *context);
    void *context;
    /* of the run; the thread's own */
    int64_t began_ns;
    int64_t began_cpu_ns;
};

/* --- the budget ---------------------------------------------------------------------------- */

static bool must_stop(struct delta_upkeep *upkeep, struct delta_upkept *table) {
    return __atomic_load_n(&table->leaving, __ATOMIC_ACQUIRE) ||
           (upkeep->draining != NULL && upkeep->draining(upkeep->context));
}

/* With the lock held. */
static void wait_ns(struct delta_upkeep *upkeep, int64_t ns) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ns / SECOND_NS;
    until.tv_nsec += ns % SECOND_NS;
    if (until.tv_nsec >= SECOND_NS) {
        until.tv_sec++;
        until.tv_nsec -= SECOND_NS;
    }
    pthread_cond_timedwait(&upkeep->changed, &upkeep->lock, &until);
}

/* Sleeps off what the thread used beyond its share. */
static bool pace(void *context, int64_t bytes) {
    struct delta_upkept *table = context;
    struct delta_upkeep *upkeep = table->upkeep;
    (void)bytes;
    for (;;) {
        if (must_stop(upkeep, table)) {
            return false;
        }
        int64_t used = weir_clock_thread_cpu_ns() - upkeep->began_cpu_ns;
        int64_t ahead = used * 100 / CPU_PERCENT - (weir_clock_mono_ns() - upkeep->began_ns);
        if (ahead < 10000000) {
            return true;
        }
        pthread_mutex_lock(&upkeep->lock);
        wait_ns(upkeep, ahead < SECOND_NS / 5 ? ahead : SECOND_NS / 5);
        pthread_mutex_unlock(&upkeep->lock);
    }
}

static bool stopping(void *context) {
    struct delta_upkept *table = context;
    return must_stop(table->upkeep, table);
}

/* --- one table ----------------------------------------------------------------------------- */

/* Plans with the lock held, writes without, commits with it. */
static int run(struct delta_upkept *table, const struct weir_delta_optimize_options *optimize,
               const struct weir_delta_expire_options *expire,
               struct weir_delta_optimize_result *result, struct weir_error *err) {
    struct weir_delta_compaction *compaction = NULL;
    int rc = WEIR_OK;
    memset(result, 0, sizeof(*result));
    pthread_mutex_lock(table->lock);
    if (*table->table != NULL) {
        rc = optimize != NULL
                 ? weir_delta_compaction_plan(*table->table, optimize, &compaction, err)
                 : weir_delta_expire_plan(*table->table, expire, &compaction, err);
    }
    pthread_mutex_unlock(table->lock);
    if (rc != WEIR_OK || compaction == NULL) {
        return rc;
    }
    rc = weir_delta_compaction_write(compaction, err);
    if (rc == WEIR_OK) {
        pthread_mutex_lock(table->lock);
        rc = *table->table != NULL
                 ? weir_delta_compaction_commit(compaction, *table->table, result, err)
                 : WEIR_OK;
        pthread_mutex_unlock(table->lock);
    }
    weir_delta_compaction_destroy(compaction);
    return rc;
}

static int rewrite(struct delta_upkept *table, const struct weir_delta_optimize_options *options,
                   struct weir_sink_upkeep *counts, struct weir_error *err) {
    struct weir_delta_optimize_result result;
    int rc = run(table, options, NULL, &result, err);
    if (rc == WEIR_OK && result.commits > 0) {
        counts->runs++;
        counts->files_removed += result.files_removed;
        counts->files_added += result.files_added;
        counts->bytes_written += result.bytes_added;
    }
    return rc;
}

/* Small files become large ones; large ones that are not in the order asked for are put in it. */
static int compact(struct delta_upkept *table, struct weir_sink_upkeep *counts,
                   struct weir_error *err) {
    bool large = table->options.direct_lake;
    struct weir_delta_optimize_options options = {
        .target_file_bytes = table->options.target_bytes > 0 ? table->options.target_bytes
                             : large                         ? LAYOUT_TARGET_BYTES
                                                             : TARGET_BYTES,
        .max_bytes = RUN_BYTES,
        .min_files = FILES_MIN,
        .tiered = true,
        .direct_lake = large,
        .memory_bytes = large ? LAYOUT_BYTES : WRITER_BYTES,
        .pace = pace,
        .stop = stopping,
        .context = table};
    int rc = rewrite(table, &options, counts, err);
    if (rc == WEIR_OK && (table->options.zorder_count > 0 ||
                          !large)) { /* by what the rules say, else by what the table does */
        options.zorder = (const char *const *)table->options.zorder;
        options.zorder_count = table->options.zorder_count;
        options.clustered = table->options.zorder_count == 0;
        options.min_files = ORDERED_MIN;
        options.memory_bytes = ORDER_BYTES;
        rc = rewrite(table, &options, counts, err);
    }
    return rc;
}

static int expire(struct delta_upkept *table, struct weir_sink_upkeep *counts,
                  struct weir_error *err) {
    struct weir_delta_optimize_result result;
    const struct weir_delta_expire_options options = {.column = table->options.keep_by,
                                                      .before_us = weir_clock_wall_us() -
                                                                   table->options.keep_us,
                                                      .slack_us = table->options.keep_us / 10,
                                                      .memory_bytes = WRITER_BYTES,
                                                      .pace = pace,
                                                      .stop = stopping,
                                                      .context = table};
    int rc = run(table, NULL, &options, &result, err);
    if (rc == WEIR_OK) {
        counts->files_expired += result.files_removed;
        counts->files_added += result.files_added;
        counts->bytes_written += result.bytes_added;
    }
    return rc;
}

/* Keeps the pipeline's commits out while vacuum makes one, and lets its table know of it. */
static void bracket(void *context, bool enter) {
    struct delta_upkept *table = context;
    if (enter) {
        pthread_mutex_lock(table->lock);
        return;
    }
    struct weir_error err;
    if (*table->table != NULL && weir_delta_table_refresh(*table->table, &err) != WEIR_OK) {
        weir_log_warn("sink",
                      "reading on after a vacuum failed, the next commit does so "
                      "table=%s error=\"%s\"",
                      table->name, err.message);
    }
    pthread_mutex_unlock(table->lock);
}

/* The table as the log has it, so that neither its lock nor what the committer holds is needed for
 * long. NULL where it has not been made yet. */
static int open_own(struct delta_upkept *table, struct weir_delta_table **own,
                    struct weir_error *err) {
    struct weir_store *store = NULL;
    char *dir = NULL;
    *own = NULL;
    pthread_mutex_lock(table->lock);
    if (*table->table != NULL) {
        store = weir_delta_table_store(*table->table);
        dir = strdup(weir_delta_table_dir(*table->table));
    }
    pthread_mutex_unlock(table->lock);
    int rc = dir != NULL ? weir_delta_table_open(store, dir, own, err) : WEIR_OK;
    free(dir);
    return rc;
}

static int vacuum(struct delta_upkept *table, struct weir_sink_upkeep *counts,
                  struct weir_error *err) {
    const struct weir_delta_vacuum_options options = {
        .retention_ms = -1, .bracket = bracket, .stop = stopping, .context = table};
    struct weir_delta_vacuum_result result;
    struct weir_delta_table *own = NULL;
    int rc = open_own(table, &own, err);
    if (rc == WEIR_OK && own != NULL) {
        rc = weir_delta_vacuum(own, &options, &result, err);
        counts->files_vacuumed += rc == WEIR_OK ? result.files : 0;
    }
    weir_delta_table_close(own);
    return rc;
}

/* Asked between two chunks of a copy. */
static bool tier_must_stop(void *context) {
    return !pace(context, 0);
}

/* With a table of its own, as vacuum: its commits and the pipeline's rebase over each other. */
static int tier(struct delta_upkept *table, struct weir_sink_upkeep *counts,
                struct weir_error *err) {
    const struct weir_delta_tier_options options = {
        .root = table->options.tier_root,
        .before_ms = (weir_clock_wall_us() - table->options.tier_us) / 1000,
        .stop = tier_must_stop,
        .stop_context = table};
    struct weir_delta_tier_result result;
    struct weir_delta_table *own = NULL;
    int rc = open_own(table, &own, err);
    if (rc == WEIR_OK && own != NULL) {
        rc = weir_delta_tier(own, &options, &result, err);
        counts->files_tiered += rc == WEIR_OK ? result.files : 0;
    }
    weir_delta_table_close(own);
    return rc;
}

/* --- the thread ---------------------------------------------------------------------------- */

enum work { NOTHING, COMPACT, EXPIRE, TIER, VACUUM };

static enum work due(const struct delta_upkept *table, int64_t now_ns) {
    if (table->options.compact && table->new_files >= FILES_MIN) {
        return COMPACT;
    }
    if (table->options.keep_us > 0 && now_ns >= table->expire_ns) {
        return EXPIRE;
    }
    if (table->options.tier_root != NULL && now_ns >= table->tier_ns) {
        return TIER;
    }
    return table->options.vacuum && now_ns >= table->vacuum_ns ? VACUUM : NOTHING;
}

static void work_on(struct delta_upkeep *upkeep, struct delta_upkept *table, enum work work,
                    struct weir_sink_upkeep *counts) {
    struct weir_error err;
    weir_error_clear(&err);
    upkeep->began_ns = weir_clock_mono_ns();
    upkeep->began_cpu_ns = weir_clock_thread_cpu_ns();
    int rc = work == COMPACT  ? compact(table, counts, &err)
             : work == EXPIRE ? expire(table, counts, &err)
             : work == TIER   ? tier(table, counts, &err)
                              : vacuum(table, counts, &err);
    if (rc != WEIR_OK && rc != WEIR_E_CLOSED) { /* nothing depends on it */
        weir_log_warn("sink", "%s of %s failed, going on error=\"%s\"",
                      work == COMPACT  ? "compaction"
                      : work == EXPIRE ? "retention"
                      : work == TIER   ? "moving old files"
                                       : "vacuum",
                      table->name, err.message);
    }
    counts->cpu_ns += weir_clock_thread_cpu_ns() - upkeep->began_cpu_ns;
}

static void add_counts(struct weir_sink_upkeep *to, const struct weir_sink_upkeep *from) {
    to->runs += from->runs;
    to->files_removed += from->files_removed;
    to->files_added += from->files_added;
    to->bytes_written += from->bytes_written;
    to->files_expired += from->files_expired;
    to->files_vacuumed += from->files_vacuumed;
    to->files_tiered += from->files_tiered;
    to->checkpoints += from->checkpoints;
    to->cpu_ns += from->cpu_ns;
}

static void *keep_up(void *context) {
    struct delta_upkeep *upkeep = context;
    weir_thread_name("upkeep", -1);
    pthread_mutex_lock(&upkeep->lock);
    while (!upkeep->stop) {
        int64_t now_ns = weir_clock_mono_ns();
        struct delta_upkept *table = upkeep->tables;
        enum work work = NOTHING;
        bool draining = upkeep->draining != NULL && upkeep->draining(upkeep->context);
        while (table != NULL && !draining && (work = due(table, now_ns)) == NOTHING) {
            table = table->next;
        }
        if (table == NULL || work == NOTHING) {
            wait_ns(upkeep, SECOND_NS);
            continue;
        }
        table->new_files = work == COMPACT ? 0 : table->new_files;
        table->expire_ns = work == EXPIRE ? now_ns + EXPIRE_NS : table->expire_ns;
        table->tier_ns = work == TIER ? now_ns + TIER_NS : table->tier_ns;
        table->vacuum_ns = work == VACUUM ? now_ns + VACUUM_NS : table->vacuum_ns;
        upkeep->working = table;
        pthread_mutex_unlock(&upkeep->lock);
        struct weir_sink_upkeep counts = {0};
        work_on(upkeep, table, work, &counts);
        pthread_mutex_lock(&upkeep->lock);
        add_counts(&table->counts, &counts);
        upkeep->working = NULL;
        pthread_cond_broadcast(&upkeep->changed);
    }
    pthread_mutex_unlock(&upkeep->lock);
    return NULL;
}

/* --- checkpoints --------------------------------------------------------------------------- */

static int checkpoint(struct delta_upkept *table, struct weir_error *err) {
    struct weir_delta_table *own = NULL;
    int rc = open_own(table, &own, err);
    rc = rc == WEIR_OK && own != NULL ? weir_delta_checkpoint(own, err) : rc;
    if (rc == WEIR_OK && own != NULL) {
        pthread_mutex_lock(table->lock);
        if (*table->table != NULL) {
            weir_delta_checkpoint_seen(*table->table, weir_delta_table_snapshot(own));
        }
        pthread_mutex_unlock(table->lock);
    }
    weir_delta_table_close(own);
    return rc;
}

static void checkpoint_one(struct delta_upkeep *upkeep, struct delta_upkept *table) {
    struct weir_error err;
    weir_error_clear(&err);
    upkeep->checkpointing = table;
    pthread_mutex_unlock(&upkeep->lock);
    int64_t used_ns = weir_clock_thread_cpu_ns();
    if (checkpoint(table, &err) != WEIR_OK) { /* nothing depends on it */
        weir_log_warn("sink", "checkpoint of %s failed, going on error=\"%s\"", table->name,
                      err.message);
    }
    used_ns = weir_clock_thread_cpu_ns() - used_ns;
    pthread_mutex_lock(&upkeep->lock);
    table->checkpoint_ns = weir_clock_mono_ns() + used_ns * (100 - CPU_PERCENT) / CPU_PERCENT;
    table->checkpoint_due = false; /* what was told meanwhile meant the one just written */
    table->counts.checkpoints++;
    table->counts.cpu_ns += used_ns;
    upkeep->checkpointing = NULL;
    pthread_cond_broadcast(&upkeep->changed);
}

static void *write_checkpoints(void *context) {
    struct delta_upkeep *upkeep = context;
    weir_thread_name("checkpoint", -1);
    pthread_mutex_lock(&upkeep->lock);
    while (!upkeep->stop) {
        int64_t now_ns = weir_clock_mono_ns();
        int64_t wait = SECOND_NS;
        struct delta_upkept *found = NULL;
        for (struct delta_upkept *table = upkeep->tables; table != NULL; table = table->next) {
            bool leaving = __atomic_load_n(&table->leaving, __ATOMIC_ACQUIRE);
            int64_t left = leaving ? 0 : table->checkpoint_ns - now_ns;
            if (table->checkpoint_due && left <= 0) {
                found = found != NULL ? found : table;
            } else if (table->checkpoint_due && left < wait) {
                wait = left;
            }
        }
        if (found != NULL) {
            checkpoint_one(upkeep, found);
        } else {
            wait_ns(upkeep, wait);
        }
    }
    pthread_mutex_unlock(&upkeep->lock);
    return NULL;
}

bool delta_upkeep_checkpoint(struct delta_upkept *table) {
    struct delta_upkeep *upkeep = table->upkeep;
    if (upkeep == NULL) {
        return false;
    }
    pthread_mutex_lock(&upkeep->lock);
    bool told = table->checkpoint_due;
    table->checkpoint_due = true;
    if (!told) {
        pthread_cond_broadcast(&upkeep->changed);
    }
    pthread_mutex_unlock(&upkeep->lock);
    return true;
}

/* --- life ---------------------------------------------------------------------------------- */

static int start_threads(struct delta_upkeep *upkeep) {
    if (weir_thread_start(&upkeep->thread, keep_up, upkeep) != 0) {
        return WEIR_E_ENVIRONMENT;
    }
    if (weir_thread_start(&upkeep->checkpointer, write_checkpoints, upkeep) == 0) {
        return WEIR_OK;
    }
    pthread_mutex_lock(&upkeep->lock);
    upkeep->stop = true;
    pthread_cond_broadcast(&upkeep->changed);
    pthread_mutex_unlock(&upkeep->lock);
    pthread_join(upkeep->thread, NULL);
    return WEIR_E_ENVIRONMENT;
}

int delta_upkeep_join(void **shared, struct delta_upkept *table, bool (*draining)(void *context),
                      void *context, struct weir_error *err) {
    struct delta_upkeep *upkeep = *shared;
    if (upkeep == NULL) {
        upkeep = calloc(1, sizeof(*upkeep));
        if (upkeep == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", table->name);
        }
        pthread_mutex_init(&upkeep->lock, NULL);
        pthread_cond_init(&upkeep->changed, NULL);
        upkeep->draining = draining;
        upkeep->context = context;
        if (start_threads(upkeep) != WEIR_OK) {
            pthread_mutex_destroy(&upkeep->lock);
            pthread_cond_destroy(&upkeep->changed);
            free(upkeep);
            return weir_error_set(err, WEIR_E_ENVIRONMENT, "%s: cannot start a thread",
                                  table->name);
        }
        *shared = upkeep;
    }
    pthread_mutex_lock(&upkeep->lock);
    table->upkeep = upkeep;
    table->expire_ns = weir_clock_mono_ns();
    table->tier_ns = weir_clock_mono_ns();
    table->vacuum_ns = weir_clock_mono_ns() + FIRST_VACUUM_NS;
    table->next = upkeep->tables;
    upkeep->tables = table;
    pthread_cond_broadcast(&upkeep->changed);
    pthread_mutex_unlock(&upkeep->lock);
    return WEIR_OK;
}

void delta_upkeep_leave(void **shared, struct delta_upkept *table) {
    struct delta_upkeep *upkeep = table->upkeep;
    if (upkeep == NULL) {
        return;
    }
    __atomic_store_n(&table->leaving, true, __ATOMIC_RELEASE);
    pthread_mutex_lock(&upkeep->lock);
    pthread_cond_broadcast(&upkeep->changed);
    while (table->checkpoint_due || upkeep->checkpointing == table) {
        pthread_cond_wait(&upkeep->changed, &upkeep->lock);
    }
    struct delta_upkept **at = &upkeep->tables;
    while (*at != table) {
        at = &(*at)->next;
    }
    *at = table->next;
    pthread_cond_broadcast(&upkeep->changed);
    while (upkeep->working == table) {
        pthread_cond_wait(&upkeep->changed, &upkeep->lock);
    }
    bool last = upkeep->tables == NULL;
    upkeep->stop = last;
    pthread_cond_broadcast(&upkeep->changed);
    pthread_mutex_unlock(&upkeep->lock);
    table->upkeep = NULL;
    if (last) {
        pthread_join(upkeep->thread, NULL);
        pthread_join(upkeep->checkpointer, NULL);
        pthread_mutex_destroy(&upkeep->lock);
        pthread_cond_destroy(&upkeep->changed);
        free(upkeep);
        *shared = NULL;
    }
}

void delta_upkeep_notice(struct delta_upkept *table, int64_t files) {
    struct delta_upkeep *upkeep = table->upkeep;
    if (upkeep == NULL || files == 0) {
        return;
    }
    pthread_mutex_lock(&upkeep->lock);
    table->new_files += files;
    if (table->new_files >= FILES_MIN) {
        pthread_cond_broadcast(&upkeep->changed);
    }
    pthread_mutex_unlock(&upkeep->lock);
}

void delta_upkeep_counts(struct delta_upkept *table, struct weir_sink_upkeep *out) {
    struct delta_upkeep *upkeep = table->upkeep;
    if (upkeep != NULL) {
        pthread_mutex_lock(&upkeep->lock);
        add_counts(out, &table->counts);
        pthread_mutex_unlock(&upkeep->lock);
    }
}
