/* What lies in _delta_log: names to versions and checkpoints. Everything else there (temporary
 * files, checksums, compacted logs, which nobody needs and one reader gets wrong) is passed over.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "lake/delta/state.h"

/* Exactly `count` digits at `text`, as a number that fits; -1 otherwise. */
static int64_t digits(const char *text, int count) {
    int64_t value = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9' || value > (INT64_MAX - 9) / 10) {
            return -1;
        }
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

static bool ends_with(const char *text, const char *tail) {
    size_t length = strlen(text);
    size_t tail_length = strlen(tail);
    return length >= tail_length && strcmp(text + length - tail_length, tail) == 0;
}

/* Parses "%020d.checkpoint…" names; false when it is none. */
static bool parse_checkpoint(const char *name, struct delta_checkpoint *out) {
    memset(out, 0, sizeof(*out));
    out->version = digits(name, 20);
    if (out->version < 0 || strncmp(name + 20, ".checkpoint.", 12) != 0) {
        return false;
    }
    const char *rest = name + 32;
    if (strcmp(rest, "parquet") == 0) {
        return true;
    }
    size_t length = strlen(rest);
    if (length == 29 && rest[10] == '.' && memcmp(rest + 21, ".parquet", 8) == 0) {
        int64_t part = digits(rest, 10);
        int64_t parts = digits(rest + 11, 10);
        if (part >= 1 && parts >= part && parts <= 1000000) {
            out->part = (int32_t)part;
            out->parts = (int32_t)parts;
            return true;
        }
        return false;
    }
    out->is_json = ends_with(rest, ".json");
    return length > 8 && (out->is_json || ends_with(rest, ".parquet"));
}

struct list_context {
    struct delta_listing *out;
    struct weir_error *err;
};

static int grow(void **items, size_t *capacity, size_t count, size_t size) {
    if (count < *capacity) {
        return WEIR_OK;
    }
    size_t wanted = *capacity > 0 ? *capacity * 2 : 64;
    void *grown = realloc(*items, wanted * size);
    if (grown == NULL) {
        return WEIR_E_NOMEM;
    }
    *items = grown;
    *capacity = wanted;
    return WEIR_OK;
}

static int visit_log(void *context, const char *path, const struct weir_store_info *info) {
    struct list_context *list = context;
    struct delta_listing *out = list->out;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    struct delta_checkpoint checkpoint;
    if (strlen(name) == 25 && memcmp(name + 20, ".json", 5) == 0 && digits(name, 20) >= 0) {
        size_t capacity = out->commit_capacity;
        void *commits = out->commits;
        void *times = out->commit_ms;
        int rc = grow(&commits, &capacity, out->commit_count, sizeof(int64_t));
        out->commits = commits;
        capacity = out->commit_capacity;
        if (rc == WEIR_OK) {
            rc = grow(&times, &capacity, out->commit_count, sizeof(int64_t));
            out->commit_ms = times;
        }
        if (rc != WEIR_OK) {
            return weir_error_set(list->err, rc, "list the log: out of memory");
        }
        out->commit_capacity = capacity;
        out->commits[out->commit_count] = digits(name, 20);
        out->commit_ms[out->commit_count++] = info->modified_ms;
    } else if (strlen(name) > 32 && parse_checkpoint(name, &checkpoint)) {
        void *items = out->checkpoints;
        int rc = grow(&items, &out->checkpoint_capacity, out->checkpoint_count, sizeof(checkpoint));
        out->checkpoints = items;
        checkpoint.name = rc == WEIR_OK ? strdup(name) : NULL;
        if (checkpoint.name == NULL) {
            return weir_error_set(list->err, WEIR_E_NOMEM, "list the log: out of memory");
        }
        out->checkpoints[out->checkpoint_count++] = checkpoint;
    }
    return WEIR_OK;
}

int delta_list_log(struct weir_store *store, const char *dir, const char *start_after,
                   struct delta_listing *out, struct weir_error *err) {
    struct list_context context = {out, err};
    memset(out, 0, sizeof(*out));
    char *log = delta_log_path(dir, "%s", "");
    if (log == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "list the log: out of memory");
    }
    int rc = weir_store_list(store, log, NULL, start_after, visit_log, &context, err);
    free(log);
    if (rc != WEIR_OK) {
        delta_listing_fini(out);
    }
    return rc;
}

void delta_listing_fini(struct delta_listing *listing) {
    free(listing->commits);
    free(listing->commit_ms);
    for (size_t i = 0; i < listing->checkpoint_count; i++) {
        free(listing->checkpoints[i].name);
    }
    free(listing->checkpoints);
    memset(listing, 0, sizeof(*listing));
}

int64_t delta_interval_ms(const char *text, int64_t fallback) {
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {
        {"millisecond", 1}, {"second", 1000},  {"minute", 60000},
        {"hour", 3600000},  {"day", 86400000}, {"week", 604800000},
    };
    if (text == NULL) {
        return fallback;
    }
    while (isspace((unsigned char)*text)) {
        text++;
    }
    if (strncasecmp(text, "interval", 8) == 0) {
        text += 8;
    }
    int64_t total = 0;
    bool any = false;
    for (;;) {
        long long count;
        char unit[24];
        int used = 0;
        if (sscanf(text, " %lld %23[a-zA-Z]%n", &count, unit, &used) != 2 || used == 0) {
            break;
        }
        size_t length = strlen(unit);
        if (length > 1 && (unit[length - 1] == 's' || unit[length - 1] == 'S')) {
            unit[length - 1] = '\0';
        }
        size_t i = 0;
        while (i < sizeof(units) / sizeof(units[0]) && strcasecmp(unit, units[i].unit) != 0) {
            i++;
        }
        int64_t part;
        if (i == sizeof(units) / sizeof(units[0]) ||
            __builtin_mul_overflow((int64_t)count, units[i].ms, &part) ||
            __builtin_add_overflow(total, part, &total)) {
            return fallback;
        }
        any = true;
        text += used;
    }
    while (isspace((unsigned char)*text)) {
        text++;
    }
    return any && *text == '\0' && total >= 0 ? total : fallback;
}

const char *delta_described(struct weir_store *store, const char *dir, struct delta_shown *out) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1u << 16);
    const char *full =
        store->ops->describe(store, dir, &text) == WEIR_OK ? weir_buffer_text(&text) : NULL;
    snprintf(out->text, sizeof(out->text), "%s", full != NULL && *full != '\0' ? full : dir);
    weir_buffer_fini(&text);
    return out->text;
}

const char *delta_shown(struct weir_store *store, const char *dir, struct delta_shown *out) {
    return *dir != '\0' ? dir : delta_described(store, dir, out);
}
