/* Which files hold nothing but old rows, and which hold some. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/text.h"
#include "lake/upkeep/compaction.h"

#define DAY_US INT64_C(86400000000)
#define ROUNDED_US 1000 /* others cut a maximum to milliseconds */

struct expiring {
    struct weir_delta_compaction *compaction;
    const struct weir_delta_expire_options *options;
    const char *name; /* of the column in statistics */
    char *date;       /* a partition column that holds the time's day, or NULL; owned */
    bool is_date;     /* the column's own type */
    bool may_rewrite;
};

enum judgement { STAYS, HAS_OLD, ALL_OLD };

static bool read_time(const json_t *bound, bool is_date, int64_t *us) {
    const char *text = json_string_value(bound);
    int32_t days;
    if (text == NULL) {
        return false;
    }
    if (!is_date) {
        return delta_parse_timestamp(text, us);
    }
    *us = delta_parse_date(text, &days) ? days * DAY_US : 0;
    return delta_parse_date(text, &days);
}

static enum judgement judge_by_stats(const struct expiring *expiring,
                                     const struct weir_delta_add *add) {
    json_t *stats = add->stats != NULL ? json_loads(add->stats, 0, NULL) : NULL;
    const json_t *nulls = json_object_get(json_object_get(stats, "nullCount"), expiring->name);
    int64_t min;
    int64_t max;
    enum judgement judgement = STAYS;
    if (read_time(json_object_get(json_object_get(stats, "minValues"), expiring->name),
                  expiring->is_date, &min) &&
        read_time(json_object_get(json_object_get(stats, "maxValues"), expiring->name),
                  expiring->is_date, &max)) {
        bool no_nulls = json_is_integer(nulls) && json_integer_value(nulls) == 0;
        if (no_nulls && max + ROUNDED_US <= expiring->options->before_us) {
            judgement = ALL_OLD;
        } else if (min < expiring->options->before_us - expiring->options->slack_us) {
            judgement = HAS_OLD;
        }
    }
    json_decref(stats);
    return judgement;
}

static enum judgement judge(const struct expiring *expiring, const struct weir_delta_add *add) {
    for (int32_t i = 0; expiring->date != NULL && i < add->partition_count; i++) {
        int32_t days;
        const char *value = add->partition_values[i].value;
        if (strcmp(add->partition_values[i].key, expiring->date) == 0 && value != NULL &&
            delta_parse_date(value, &days)) {
            return (days + 1) * DAY_US <= expiring->options->before_us ? ALL_OLD : STAYS;
        }
    }
    return judge_by_stats(expiring, add);
}

static int expire_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    const struct expiring *expiring = context;
    enum judgement judgement = judge(expiring, add);
    if (judgement == STAYS || (judgement == HAS_OLD && !expiring->may_rewrite)) {
        return WEIR_OK;
    }
    int rc = delta_compaction_add(expiring->compaction, &add, 1, err);
    if (rc == WEIR_OK) {
        expiring->compaction->groups[expiring->compaction->group_count - 1].dropped =
            judgement == ALL_OLD;
    }
    return rc;
}

static int look_at_table(struct expiring *expiring, struct weir_delta_table *table,
                         struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    const char *column = expiring->options->column;
    const struct weir_delta_column *columns;
    const struct weir_schema *schema;
    int rc = delta_check_may_remove(table, "keep", err);
    rc = rc == WEIR_OK ? weir_delta_snapshot_schema(table->snapshot, &schema, &columns, err) : rc;
    int32_t at = rc == WEIR_OK ? weir_schema_find(schema, column) : -1;
    if (rc == WEIR_OK && (at < 0 || (schema->fields[at].type != WEIR_TYPE_DATE &&
                                     schema->fields[at].type != WEIR_TYPE_TIMESTAMP &&
                                     schema->fields[at].type != WEIR_TYPE_TIMESTAMP_NTZ))) {
        rc = weir_error_set(err, WEIR_E_UNSUPPORTED,
                            "keep: %s is no column of dates or times in the table", column);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    expiring->name = columns[at].physical_name;
    expiring->is_date = schema->fields[at].type == WEIR_TYPE_DATE;
    expiring->may_rewrite = !delta_property_is_true(metadata, DELTA_FEED_PROPERTY);
    for (int32_t i = 0; i < metadata->partition_count; i++) {
        const char *name = metadata->partition_columns[i];
        size_t length = strlen(column);
        bool derived = strncmp(name, column, length) == 0 && strcmp(name + length, "_date") == 0;
        int32_t place = weir_schema_find(schema, name);
        bool same = expiring->is_date && strcmp(name, column) == 0;
        if (place >= 0 && schema->fields[place].type == WEIR_TYPE_DATE && (derived || same)) {
            free(expiring->date);
            expiring->date = strdup(columns[place].physical_name);
            expiring->may_rewrite = expiring->may_rewrite && !same;
            if (expiring->date == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "keep: out of memory");
            }
        }
    }
    return WEIR_OK;
}

int weir_delta_expire_plan(struct weir_delta_table *table,
                           const struct weir_delta_expire_options *options,
                           struct weir_delta_compaction **out, struct weir_error *err) {
    const struct weir_delta_optimize_options own = {.memory_bytes = options->memory_bytes,
                                                    .pace = options->pace,
                                                    .stop = options->stop,
                                                    .context = options->context};
    struct expiring expiring = {.options = options};
    *out = NULL;
    int rc = delta_compaction_create(table, "keep", &own, &expiring.compaction, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    expiring.compaction->own = own;
    expiring.compaction->options = &expiring.compaction->own;
    expiring.compaction->expire_column = options->column;
    expiring.compaction->expire_before_us = options->before_us;
    rc = look_at_table(&expiring, table, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_each_file(table->snapshot, expire_file, &expiring, err);
    }
    free(expiring.date);
    if (rc != WEIR_OK || expiring.compaction->group_count == 0) {
        weir_delta_compaction_destroy(expiring.compaction);
        return rc;
    }
    *out = expiring.compaction;
    return WEIR_OK;
}
