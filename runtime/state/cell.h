#pragma once
/* What epochs and snapshots need of every piece of state, whatever its structure: a *cell* is
 * sealed in O(1), its changes are collected behind the loop's back in slices, it can be dumped
 * slice by slice while it goes on changing, and it is rebuilt by applying such bytes.
 *
 * Bytes from collect and dump are a sequence of whole images (docs/formats/state.md); each call's
 * output starts with the cell's header image, so every slice stands on its own: apply the slices
 * of a snapshot in any order, then the slices of the records begin..end in theirs. Applying twice
 * is harmless.
 *
 * All calls on the loop thread. A cell is embedded in its owner, which outlives it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a dump stands; zeroed before the first call. */
struct weir_cell_cursor {
    int64_t major;
    uint64_t minor;
    bool started;
};

struct weir_cell_ops {
    /* O(1), does not block. WEIR_E_BUG when the epoch sealed before is not collected whole. */
    int (*seal)(void *self, struct weir_error *err);
    /* Appends images of at most about max_slots changes of the sealed epoch; *done when that was
     * the last. An unchanged cell appends nothing. On an error (WEIR_E_LIMIT: the buffer's cap;
     * WEIR_E_NOMEM) nothing was appended and the call may be repeated. */
    int (*collect)(void *self, struct weir_buffer *out, size_t max_slots, bool *done,
                   struct weir_error *err);
    /* Appends at most about max_slots live slots from the cursor on. Same errors. */
    int (*dump)(void *self, struct weir_cell_cursor *cursor, struct weir_buffer *out,
                size_t max_slots, bool *done, struct weir_error *err);
    /* Idempotent redo of images, before the first feed. WEIR_E_CORRUPT: damaged. WEIR_E_VERSION: of
     * another cell, format or shape (the message says the way out). */
    int (*apply)(void *self, const uint8_t *bytes, size_t length, struct weir_error *err);
    size_t (*keys)(const void *self);
    size_t (*bytes)(const void *self); /* resident, all in */
};

struct weir_cell {
    const char *name; /* "<declaration>/<cell>", e.g. "gold.sales_velocity/window" */
    const struct weir_cell_ops *ops;
    void *self;
};

#ifdef __cplusplus
}
#endif
