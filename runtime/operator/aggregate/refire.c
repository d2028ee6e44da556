/* Windows whose rows leave as the window ends, and from then on as they change, until lateness is
 * over: those that have not ended yet wait by their end. */
#include <string.h>

#include "operator/aggregate/layout.h"

static int64_t end_of(const struct weir_aggregate *aggregate, int64_t id) {
    int64_t start;
    int64_t end;
    weir_aggregate_bounds(aggregate, id, &start, &end);
    return end;
}

bool weir_refire_waits(const struct weir_aggregate *aggregate, int64_t id) {
    return aggregate->refires && end_of(aggregate, id) > aggregate->fired_us;
}

bool weir_refire_note(struct weir_aggregate *aggregate, int64_t id) {
    return !aggregate->fired_known || !weir_refire_waits(aggregate, id) ||
           weir_windows_get(&aggregate->unfired, id) != NULL;
}

bool weir_refire_ready(const struct weir_aggregate *aggregate, int64_t watermark_us) {
    const struct weir_windows *unfired = &aggregate->unfired;
    return unfired->count > 0 &&
           end_of(aggregate, unfired->windows[unfired->heap[0]].start_us) <= watermark_us;
}

static bool has_rows(const struct weir_aggregate *aggregate, const uint8_t *value) {
    int64_t rows;
    memcpy(&rows, value + aggregate->measures.tail_offset, sizeof rows);
    return rows > 0;
}

int weir_refire_first(struct weir_aggregate *aggregate, int64_t watermark_us,
                      struct weir_batch_builder *out, int32_t max_rows, int32_t *work,
                      enum weir_fired *fired, bool *done, struct weir_error *err) {
    *done = false;
    while (weir_refire_ready(aggregate, watermark_us)) {
        int64_t id = weir_windows_first(&aggregate->unfired)->start_us;
        const struct weir_window *window = weir_windows_find(&aggregate->windows, id);
        uint32_t at = aggregate->firing != 0 ? aggregate->firing
                      : window != NULL       ? window->head
                                             : 0;
        while (at != 0) {
            struct weir_slot *slot = weir_table_slot(aggregate->table, at);
            struct weir_aggregate_row row = {.value = weir_slot_value(aggregate->table, slot)};
            aggregate->firing = at;
            if (out->rows >= max_rows || out->rows == out->rows_max || (*work)-- <= 0) {
                *fired = *work < 0 ? WEIR_FIRED_SOME : WEIR_FIRED_FULL;
                return WEIR_OK;
            }
            at = slot->link;
            if (!has_rows(aggregate, row.value)) {
                continue;
            }
            int rc = weir_aggregate_meet_slot(aggregate, slot, err);
            if (rc != WEIR_OK) {
                return rc;
            }
            weir_aggregate_read_key(aggregate, slot, &row);
            bool full;
            rc = weir_aggregate_emit(aggregate, &row, out, &full, err);
            if (rc != WEIR_OK || full) {
                return rc;
            }
        }
        aggregate->firing = 0;
        weir_windows_remove_first(&aggregate->unfired);
    }
    aggregate->fired_us = watermark_us > aggregate->fired_us ? watermark_us : aggregate->fired_us;
    *done = true;
    return WEIR_OK;
}

int weir_aggregate_settle(struct weir_aggregate *aggregate, int64_t watermark_us,
                          struct weir_error *err) {
    if (aggregate->fired_known) {
        return WEIR_OK;
    }
    aggregate->fired_known = true;
    aggregate->fired_us = watermark_us != INT64_MAX ? watermark_us : INT64_MIN; /* none is left */
    for (uint32_t i = 0; i < aggregate->windows.count; i++) {
        int64_t id = aggregate->windows.windows[aggregate->windows.heap[i]].start_us;
        if (!weir_refire_note(aggregate, id)) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for its windows",
                                  aggregate->declaration);
        }
    }
    return WEIR_OK;
}
