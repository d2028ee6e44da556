/* Rows that leave: groups whose windows have closed, one after the other, and what is deleted with
 * them. */

#include "core/time.h"
#include "operator/aggregate/counted.h"
#include "operator/aggregate/layout.h"
#include "operator/aggregate/members.h"
#include "operator/aggregate/session.h"

enum {
    FIRE_WORK = 2048, /* slots a call */
    MET_TOGETHER = 64,
    MET_WORK = 8 /* what one costs, in slots */
};

static int64_t end_of(const struct weir_aggregate *aggregate, int64_t id) {
    int64_t start;
    int64_t end;
    weir_aggregate_bounds(aggregate, id, &start, &end);
    return end;
}

bool weir_aggregate_ready(const struct weir_aggregate *aggregate, int64_t watermark_us) {
    const struct weir_windows *windows = &aggregate->windows;
    if (aggregate->hops != NULL) {
        return weir_hops_ready(aggregate, watermark_us);
    }
    if (aggregate->sessions != NULL) {
        return weir_sessions_ready(aggregate, watermark_us);
    }
    if (aggregate->counted != NULL) {
        return weir_counted_ready(aggregate, watermark_us);
    }
    if (weir_refire_ready(aggregate, watermark_us)) {
        return true;
    }
    return windows->count > 0 &&
           weir_time_add(end_of(aggregate, windows->windows[windows->heap[0]].start_us),
                         aggregate->lateness) <= watermark_us;
}

int weir_aggregate_append_row(struct weir_aggregate *aggregate,
                              const struct weir_aggregate_row *row, struct weir_batch_builder *out,
                              struct weir_error *err) {
    struct weir_column_builder *column = out->columns + aggregate->by_count;
    int rc = weir_key_decode(aggregate->key, row->key, row->key_bytes, out->columns);
    if (rc == WEIR_E_CORRUPT) {
        return weir_error_set(err, rc, "%s: a key in the state does not parse",
                              weir_table_name(aggregate->table));
    }
    if (rc == WEIR_OK && !aggregate->unwindowed) {
        rc = weir_builder_int(column++, row->start_us);
        if (rc == WEIR_OK) {
            rc = weir_builder_int(column++, row->end_us);
        }
    }
    for (int32_t m = 0; m < aggregate->measures.count && rc == WEIR_OK; m++) {
        rc = weir_measures_emit(&aggregate->measures, m, row->value, column++, err);
    }
    if (rc == WEIR_OK && aggregate->changes != NULL) {
        rc = weir_builder_int(column, row->change);
    }
    if (rc == WEIR_E_DATA && aggregate->unwindowed) {
        weir_error_wrap(err, "%s", aggregate->declaration);
    } else if (rc == WEIR_E_DATA) {
        static const char form[] = "%FT%TZ";
        char start[64];
        int length =
            weir_time_format(row->start_us, form, sizeof(form) - 1, NULL, start, sizeof(start));
        weir_error_wrap(err, "%s: the window that begins at %.*s", aggregate->declaration,
                        length > 0 ? length : 0, start);
    }
    return rc;
}

void weir_aggregate_read_key(const struct weir_aggregate *aggregate, const struct weir_slot *slot,
                             struct weir_aggregate_row *row) {
    const uint8_t *key = weir_slot_key(aggregate->table, slot);
    row->key = key + aggregate->prefix_bytes;
    row->key_bytes = slot->key_bytes - aggregate->prefix_bytes;
    if (aggregate->sessions != NULL) {
        weir_sessions_bounds(aggregate, row->value, &row->start_us, &row->end_us);
    } else if (!aggregate->unwindowed) {
        int64_t id;
        memcpy(&id, key, sizeof id);
        weir_aggregate_bounds(aggregate, id, &row->start_us, &row->end_us);
    }
}

int weir_aggregate_row_failed(const struct weir_aggregate *aggregate, int rc,
                              struct weir_batch_builder *out, bool *full, struct weir_error *err) {
    weir_batch_builder_undo_row(out);
    *full = rc == WEIR_E_LIMIT && out->rows > 0;
    return rc == WEIR_E_LIMIT || rc == WEIR_E_NOMEM
               ? weir_error_set(err, rc, "%s: no room for one row of output",
                                aggregate->declaration)
               : rc;
}

int weir_aggregate_emit(struct weir_aggregate *aggregate, const struct weir_aggregate_row *row,
                        struct weir_batch_builder *out, bool *full, struct weir_error *err) {
    int rc = weir_aggregate_append_row(aggregate, row, out, err);
    *full = false;
    if (rc != WEIR_OK) {
        rc = weir_aggregate_row_failed(aggregate, rc, out, full, err);
        return *full ? WEIR_OK : rc;
    }
    weir_batch_builder_finish_row(out);
    return WEIR_OK;
}

int weir_aggregate_emit_slot(struct weir_aggregate *aggregate, struct weir_slot *slot,
                             struct weir_batch_builder *out, bool *full, struct weir_error *err) {
    struct weir_aggregate_row row = {.value = weir_slot_value(aggregate->table, slot)};
    *full = false;
    int rc = weir_aggregate_meet_slot(aggregate, slot, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_aggregate_read_key(aggregate, slot, &row);
    return weir_aggregate_emit(aggregate, &row, out, full, err);
}

int weir_aggregate_delete_slot(struct weir_aggregate *aggregate, struct weir_slot *slot,
                               struct weir_error *err) {
    int rc = WEIR_OK;
    if (aggregate->members != NULL) {
        rc = weir_members_bury(aggregate, weir_slot_value(aggregate->table, slot), err);
    }
    if (rc == WEIR_OK) {
        rc = weir_table_delete(aggregate->table, slot, false);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: no memory to delete",
                                  weir_table_name(aggregate->table));
        }
    }
    return rc;
}

bool weir_aggregate_has_no_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    int64_t rows;
    memcpy(&rows,
           (uint8_t *)weir_slot_value(aggregate->table, slot) + aggregate->measures.tail_offset,
           sizeof rows);
    return rows <= 0;
}

/* Of groups that wait for functions to run, some are met together. */
static int meet_ahead(struct weir_aggregate *aggregate, struct weir_slot *slot, int32_t *work,
                      struct weir_error *err) {
    uint8_t *values[MET_TOGETHER];
    int32_t count = 0;
    uint32_t length;
    if (aggregate->measures.old_count == 0 || aggregate->changes != NULL ||
        weir_measures_old(&aggregate->measures, weir_slot_value(aggregate->table, slot), &length) ==
            NULL) {
        return WEIR_OK;
    }
    for (; slot != NULL && count < MET_TOGETHER;
         slot = slot->link != 0 ? weir_table_slot(aggregate->table, slot->link) : NULL) {
        values[count++] = weir_slot_value(aggregate->table, slot);
        if (weir_table_touch(aggregate->table, slot) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory to note a change",
                                  aggregate->declaration);
        }
    }
    *work -= count * MET_WORK;
    return weir_aggregate_meet(aggregate, values, count, err);
}

int weir_aggregate_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                        struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                        struct weir_error *err) {
    int32_t work = FIRE_WORK;
    *fired = WEIR_FIRED_FULL;
    int rc = weir_members_reap(aggregate, err);
    if (rc == WEIR_OK && aggregate->hops != NULL) {
        return weir_hops_fire(aggregate, watermark_us, out, max_rows, fired, err);
    }
    if (rc == WEIR_OK && aggregate->sessions != NULL) {
        return weir_sessions_fire(aggregate, watermark_us, out, max_rows, fired, err);
    }
    if (rc == WEIR_OK && aggregate->counted != NULL) {
        return weir_counted_fire(aggregate, watermark_us, out, max_rows, fired, err);
    }
    if (rc == WEIR_OK && aggregate->refires) {
        bool done;
        rc = weir_refire_first(aggregate, watermark_us, out, max_rows, &work, fired, &done, err);
        if (rc != WEIR_OK || !done) {
            return rc;
        }
    }
    while (rc == WEIR_OK && weir_aggregate_ready(aggregate, watermark_us)) {
        if (out->rows >= max_rows || out->rows == out->rows_max) {
            return WEIR_OK;
        }
        if (aggregate_disk_fires(aggregate)) {
            bool done;
            rc = aggregate_disk_fire(aggregate, out, max_rows, &done, fired, err);
            if (rc != WEIR_OK || !done) {
                return rc;
            }
            continue;
        }
        if (work-- <= 0) { /* of windows that all was taken back from there may be very many */
            *fired = WEIR_FIRED_SOME;
            return WEIR_OK;
        }
        struct weir_window *window = weir_windows_first(&aggregate->windows);
        struct weir_slot *slot = weir_table_slot(aggregate->table, window->head);
        rc = meet_ahead(aggregate, slot, &work, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        bool empty = aggregate->changes != NULL || /* they have left already */
                     (aggregate->measures.retracts && weir_aggregate_has_no_rows(aggregate, slot));
        bool full = false;
        rc = empty ? WEIR_OK : weir_aggregate_emit_slot(aggregate, slot, out, &full, err);
        if (rc != WEIR_OK || full) {
            return rc;
        }
        uint32_t next = slot->link;
        if (next != 0) { /* its place in the index, for the delete to come */
            weir_table_prefetch(aggregate->table, weir_table_slot(aggregate->table, next)->hash);
        }
        rc = weir_aggregate_delete_slot(aggregate, slot, err);
        if (rc == WEIR_E_NOMEM) {
            return rc;
        }
        window->head = next;
        window->slots--;
        aggregate_disk_headed(aggregate, next);
        if (next == 0) {
            weir_windows_remove_first(&aggregate->windows);
        }
    }
    *fired = WEIR_FIRED_ALL;
    return rc;
}
