/* A feed walks its rows once: the minimum over the *other* partitions does not change meanwhile,
 * so a row's watermark is min(others, own prefix maximum - out_of_order), never going back. */
#include "operator/watermark.h"

#include "operator/window.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PARTITIONS_MAX = 1 << 20, SAVE_VERSION = 1, NAME_MAX_BYTES = 4096 };

struct partition {
    char *name;
    int64_t max_us;     /* largest event time; WEIR_WATERMARK_NONE: no row yet */
    int64_t active_us;  /* recorded clock of the last row, moved on by blocked time */
    int64_t blocked_us; /* since when; meaningful while blocked */
    bool blocked;
    bool idle;
    bool finished;
};

struct weir_watermark {
    char *dataset;
    int64_t out_of_order;
    int64_t idle;
    int64_t max_ahead;
    int64_t now; /* the dataset's; never goes back */
    struct partition *partitions;
    int32_t count;
    int32_t capacity;
};

struct weir_watermark *weir_watermark_create(const struct weir_watermark_config *config,
                                             struct weir_error *err) {
    if (config->out_of_order_us < 0 || config->idle_us < 0) {
        weir_error_set(err, WEIR_E_CONFIG, "%s: time: out_of_order and idle cannot be negative",
                       config->dataset);
        return NULL;
    }
    struct weir_watermark *watermark = calloc(1, sizeof *watermark);
    char *dataset = strdup(config->dataset);
    if (watermark == NULL || dataset == NULL) {
        free(watermark);
        free(dataset);
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for a watermark", config->dataset);
        return NULL;
    }
    watermark->dataset = dataset;
    watermark->out_of_order = config->out_of_order_us;
    watermark->idle = config->idle_us;
    watermark->max_ahead = config->max_ahead_us;
    watermark->now = WEIR_WATERMARK_NONE;
    return watermark;
}

static void clear_partitions(struct weir_watermark *watermark) {
    for (int32_t i = 0; i < watermark->count; i++) {
        free(watermark->partitions[i].name);
    }
    watermark->count = 0;
}

void weir_watermark_destroy(struct weir_watermark *watermark) {
    if (watermark == NULL) {
        return;
    }
    clear_partitions(watermark);
    free(watermark->partitions);
    free(watermark->dataset);
    free(watermark);
}

static struct partition *add_partition(struct weir_watermark *watermark, const char *name,
                                       size_t length) {
    if (watermark->count == PARTITIONS_MAX) {
        return NULL;
    }
    if (watermark->count == watermark->capacity) {
        int32_t capacity = watermark->capacity == 0 ? 8 : watermark->capacity * 2;
        struct partition *partitions =
            realloc(watermark->partitions, (size_t)capacity * sizeof *partitions);
        if (partitions == NULL) {
            return NULL;
        }
        watermark->partitions = partitions;
        watermark->capacity = capacity;
    }
    char *copy = strndup(name, length);
    if (copy == NULL) {
        return NULL;
    }
    struct partition *partition = &watermark->partitions[watermark->count++];
    *partition = (struct partition){.name = copy, .max_us = WEIR_WATERMARK_NONE};
    return partition;
}

int32_t weir_watermark_find(const struct weir_watermark *watermark, const char *name) {
    for (int32_t i = 0; i < watermark->count; i++) {
        if (strcmp(watermark->partitions[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int32_t weir_watermark_partition(struct weir_watermark *watermark, const char *name,
                                 int64_t clock_us) {
    int32_t found = weir_watermark_find(watermark, name);
    if (found >= 0) {
        return found;
    }
    struct partition *partition = add_partition(watermark, name, strlen(name));
    if (partition == NULL) {
        return -1;
    }
    partition->active_us = clock_us;
    return watermark->count - 1;
}

static int64_t behind(const struct weir_watermark *watermark, int64_t max_us) {
    int64_t result;
    if (max_us == WEIR_WATERMARK_NONE ||
        __builtin_sub_overflow(max_us, watermark->out_of_order, &result)) {
        return WEIR_WATERMARK_NONE;
    }
    return result;
}

/* Minimum over the partitions that count, but `except`; *any says whether there is one. */
static int64_t minimum(const struct weir_watermark *watermark, int32_t except, bool *any) {
    int64_t result = WEIR_WATERMARK_END;
    *any = false;
    for (int32_t i = 0; i < watermark->count; i++) {
        const struct partition *partition = &watermark->partitions[i];
        if (i == except || partition->idle || partition->finished) {
            continue;
        }
        *any = true;
        int64_t own = behind(watermark, partition->max_us);
        result = own < result ? own : result;
    }
    return result;
}

/* True when the dataset's watermark moved. With no partition left to wait for it stands: all are
 * idle (rows may come any time) or finished (then the loop says the end itself). */
static bool advance(struct weir_watermark *watermark) {
    bool any;
    int64_t now = minimum(watermark, -1, &any);
    if (!any || now <= watermark->now) {
        return false;
    }
    watermark->now = now;
    return true;
}

void weir_watermark_feed_times(struct weir_watermark *watermark, int32_t partition,
                               int64_t clock_us, const int64_t *times_us, int32_t rows,
                               int64_t *watermark_before_us, uint8_t *flags) {
    if (rows == 0) {
        return;
    }
    struct partition *own = &watermark->partitions[partition];
    own->idle = false;
    own->finished = false;
    if (clock_us > own->active_us) {
        own->active_us = clock_us;
    }
    if (own->blocked) {
        own->blocked_us = own->active_us;
    }
    bool any;
    int64_t others = minimum(watermark, partition, &any);
    int64_t latest = INT64_MAX;
    if (watermark->max_ahead >= 0 &&
        __builtin_add_overflow(clock_us, watermark->max_ahead, &latest)) {
        latest = INT64_MAX;
    }
    int64_t max = own->max_us;
    int64_t now = watermark->now;
    for (int32_t i = 0; i < rows; i++) {
        int64_t mark = behind(watermark, max);
        mark = mark < others ? mark : others;
        now = mark > now ? mark : now;
        watermark_before_us[i] = now;
        if (flags[i] == WEIR_TIME_NULL) {
            continue;
        }
        if (times_us[i] > latest) {
            flags[i] = WEIR_TIME_FUTURE;
        } else {
            flags[i] = WEIR_TIME_OK;
            max = times_us[i] > max ? times_us[i] : max;
        }
    }
    own->max_us = max;
    watermark->now = now;
    advance(watermark);
}

int weir_time_read(const struct weir_column *time, int32_t rows, int64_t *times_us,
                   uint8_t *null_flags) {
    const int64_t *values = time->values;
    if (rows <= 0) {
        return WEIR_OK;
    }
    if (time->codes != NULL) {
        return WEIR_E_BUG;
    }
    switch (time->type) {
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
        memcpy(times_us, values, (size_t)rows * sizeof *times_us);
        break;
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        for (int32_t i = 0; i < rows; i++) {
            times_us[i] = values[i] / 1000 - (values[i] % 1000 < 0);
        }
        break;
    case WEIR_TYPE_DATE:
        for (int32_t i = 0; i < rows; i++) {
            times_us[i] = (int64_t)((const int32_t *)time->values)[i] * INT64_C(86400000000);
        }
        break;
    default:
        return WEIR_E_BUG;
    }
    memset(null_flags, 0, (size_t)rows);
    if (time->validity != NULL) {
        for (int32_t i = 0; i < rows; i++) {
            if (!weir_bit_get(time->validity, i)) {
                null_flags[i] = 1;
                times_us[i] = 0;
            }
        }
    }
    return WEIR_OK;
}

int weir_watermark_feed(struct weir_watermark *watermark, int32_t partition, int64_t clock_us,
                        const struct weir_column *time, int32_t rows, int64_t *times_us,
                        int64_t *watermark_before_us, uint8_t *flags) {
    int rc = weir_time_read(time, rows, times_us, flags);
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_watermark_feed_times(watermark, partition, clock_us, times_us, rows, watermark_before_us,
                              flags);
    return WEIR_OK;
}

bool weir_watermark_tick(struct weir_watermark *watermark, int64_t clock_us) {
    if (watermark->idle == 0) {
        return false;
    }
    for (int32_t i = 0; i < watermark->count; i++) {
        struct partition *partition = &watermark->partitions[i];
        if (!partition->idle && !partition->finished && !partition->blocked &&
            clock_us - partition->active_us >= watermark->idle) {
            partition->idle = true;
        }
    }
    return advance(watermark);
}

bool weir_watermark_reach(struct weir_watermark *watermark, int64_t time_us) {
    int64_t now = behind(watermark, time_us);
    if (now <= watermark->now) {
        return false;
    }
    watermark->now = now;
    return true;
}

void weir_watermark_block(struct weir_watermark *watermark, int32_t partition, bool blocked,
                          int64_t clock_us) {
    struct partition *own = &watermark->partitions[partition];
    if (own->blocked == blocked) {
        return;
    }
    own->blocked = blocked;
    if (blocked) {
        own->blocked_us = clock_us;
    } else if (clock_us > own->blocked_us) {
        own->active_us += clock_us - own->blocked_us;
    }
}

void weir_watermark_held(struct weir_watermark *watermark, int64_t held_us, int64_t clock_us) {
    for (int32_t i = 0; i < watermark->count; i++) {
        struct partition *partition = &watermark->partitions[i];
        if (partition->blocked) {
            weir_watermark_block(watermark, i, false, clock_us);
            continue;
        }
        int64_t active = weir_time_add(partition->active_us, held_us);
        partition->active_us = active < clock_us ? active : clock_us;
    }
}

void weir_watermark_finish(struct weir_watermark *watermark, int32_t partition) {
    watermark->partitions[partition].finished = true;
    advance(watermark);
}

void weir_watermark_renew(struct weir_watermark *watermark, int32_t partition, int64_t clock_us) {
    struct partition *own = &watermark->partitions[partition];
    own->max_us = WEIR_WATERMARK_NONE;
    own->active_us = own->blocked_us = clock_us;
    own->idle = own->finished = false;
}

bool weir_watermark_waits(const struct weir_watermark *watermark) {
    bool any;
    (void)minimum(watermark, -1, &any);
    return any || watermark->count == 0;
}

int64_t weir_watermark_now(const struct weir_watermark *watermark) {
    return watermark->now;
}

bool weir_watermark_is_idle(const struct weir_watermark *watermark, int32_t partition) {
    return watermark->partitions[partition].idle;
}

int64_t weir_watermark_of(const struct weir_watermark *watermark, int32_t partition) {
    return behind(watermark, watermark->partitions[partition].max_us);
}

static void append_time(struct weir_buffer *out, int64_t time_us, int *rc) {
    time_t seconds = (time_t)(time_us / 1000000 - (time_us % 1000000 < 0));
    struct tm parts;
    if (*rc != WEIR_OK) {
        return;
    }
    if (gmtime_r(&seconds, &parts) == NULL) {
        *rc = weir_buffer_printf(out, "%" PRId64 " us", time_us);
        return;
    }
    *rc = weir_buffer_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", parts.tm_year + 1900,
                             parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min,
                             parts.tm_sec, (int)(time_us - (int64_t)seconds * 1000000));
}

int weir_watermark_why(const struct weir_watermark *watermark, int64_t clock_us,
                       struct weir_buffer *out) {
    const struct partition *holder = NULL;
    int32_t idle = 0;
    int32_t finished = 0;
    for (int32_t i = 0; i < watermark->count; i++) {
        const struct partition *partition = &watermark->partitions[i];
        idle += partition->idle;
        finished += partition->finished;
        if (!partition->idle && !partition->finished &&
            (holder == NULL || partition->max_us < holder->max_us)) {
            holder = partition;
        }
    }
    int rc = weir_buffer_printf(out, "%s: ", watermark->dataset);
    if (rc == WEIR_OK && watermark->now == WEIR_WATERMARK_NONE) {
        rc = weir_buffer_append_text(out, "no watermark yet");
    } else if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(out, "watermark ");
        append_time(out, watermark->now, &rc);
    }
    if (rc == WEIR_OK && holder == NULL) {
        rc = weir_buffer_printf(out, "; no partition holds it (%d idle, %d finished of %d)", idle,
                                finished, watermark->count);
    } else if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out, ", held by partition '%s'", holder->name);
        if (rc == WEIR_OK && holder->max_us == WEIR_WATERMARK_NONE) {
            rc = weir_buffer_append_text(out, ", which has had no row yet");
        } else if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(out, ", whose latest row is of ");
            append_time(out, holder->max_us, &rc);
        }
        if (rc == WEIR_OK) {
            double since = (double)(clock_us - holder->active_us) / 1e6;
            rc = weir_buffer_printf(
                out, "; nothing from it for %.1f s%s (%d idle, %d finished)", since > 0 ? since : 0,
                holder->blocked ? ", held back by the runtime" : "", idle, finished);
        }
    }
    return rc;
}

/* --- persistence: u8 version, i64 now, u32 count, then per partition u32 length, name, i64 max,
 * i64 active, i64 blocked since, u8 flags (1 blocked, 2 idle, 4 finished) ------------------------
 */

int weir_watermark_save(const struct weir_watermark *watermark, struct weir_buffer *out) {
    uint8_t version = SAVE_VERSION;
    uint32_t count = (uint32_t)watermark->count;
    size_t start = out->size;
    int rc = weir_buffer_append(out, &version, sizeof version);
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, &watermark->now, sizeof watermark->now);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, &count, sizeof count);
    }
    for (uint32_t i = 0; i < count && rc == WEIR_OK; i++) {
        const struct partition *partition = &watermark->partitions[i];
        uint32_t length = (uint32_t)strlen(partition->name);
        int64_t times[3] = {partition->max_us, partition->active_us, partition->blocked_us};
        uint8_t flags =
            (uint8_t)(partition->blocked | partition->idle << 1 | partition->finished << 2);
        rc = weir_buffer_append(out, &length, sizeof length);
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(out, partition->name, length);
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(out, times, sizeof times);
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(out, &flags, sizeof flags);
        }
    }
    if (rc != WEIR_OK) {
        out->size = start;
    }
    return rc;
}

static bool take(const uint8_t **at, const uint8_t *end, void *to, size_t size) {
    if ((size_t)(end - *at) < size) {
        return false;
    }
    memcpy(to, *at, size);
    *at += size;
    return true;
}

int weir_watermark_load(struct weir_watermark *watermark, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    const uint8_t *at = bytes;
    const uint8_t *end = bytes + length;
    uint8_t version;
    uint32_t count;
    if (!take(&at, end, &version, sizeof version)) {
        goto damaged;
    }
    if (version != SAVE_VERSION) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "%s: watermark state of format %u; this binary reads format %d: run "
                              "the version of weir that wrote it, or a later one",
                              watermark->dataset, version, SAVE_VERSION);
    }
    if (!take(&at, end, &watermark->now, sizeof watermark->now) ||
        !take(&at, end, &count, sizeof count)) {
        goto damaged;
    }
    clear_partitions(watermark);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t name_bytes;
        int64_t times[3];
        uint8_t flags;
        if (!take(&at, end, &name_bytes, sizeof name_bytes) || name_bytes > NAME_MAX_BYTES ||
            name_bytes > (size_t)(end - at)) {
            goto damaged;
        }
        const char *name = (const char *)at;
        at += name_bytes;
        if (!take(&at, end, times, sizeof times) || !take(&at, end, &flags, sizeof flags)) {
            goto damaged;
        }
        struct partition *partition = add_partition(watermark, name, name_bytes);
        if (partition == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for partition %u",
                                  watermark->dataset, i);
        }
        partition->max_us = times[0];
        partition->active_us = times[1];
        partition->blocked_us = times[2];
        partition->blocked = (flags & 1) != 0;
        partition->idle = (flags & 2) != 0;
        partition->finished = (flags & 4) != 0;
    }
    if (at == end) {
        return WEIR_OK;
    }
damaged:
    return weir_error_set(err, WEIR_E_CORRUPT, "%s: damaged watermark state", watermark->dataset);
}
