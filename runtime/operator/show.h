#pragma once
/* State as people read it: what an image of a cell says (docs/formats/state.md), as a JSON object
 * of its key and one of its value, typed as the rules declare it. For looking at state from outside
 * the loop, not for speed. One thread. */
#include "batch/builder.h"
#include "core/buffer.h"
#include "operator/key.h"
#include "state/cell.h"

struct weir_show_entry { /* a put or an insert, spans borrowed */
    uint64_t sequence;
    const uint8_t *key; /* of a fingerprint: its 16 bytes */
    size_t key_bytes;
    const uint8_t *value;
    size_t value_bytes;
    int64_t time_us; /* of a fingerprint */
};

enum { WEIR_SHOWN_BUILDERS = 16 };

struct weir_shown {
    struct weir_pool *pool;
    struct weir_buffer key;   /* an object, or empty: nobody wants to see it */
    struct weir_buffer value; /* an object */
    struct weir_batch_builder builders[WEIR_SHOWN_BUILDERS]; /* by schema, made once */
    int32_t builder_count;
};

typedef int weir_show_take(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                           struct weir_error *err);

struct weir_show { /* how a cell is shown */
    struct weir_cell *cell;
    const char *what; /* a phrase for lists of cells */
    void *owner;
    weir_show_take *take;
    bool detail; /* not shown with the rest of its declaration, only when asked for by name or with
                    everything */
};

void weir_shown_init(struct weir_shown *shown, struct weir_pool *pool);
void weir_shown_fini(struct weir_shown *shown);
void weir_shown_clear(struct weir_shown *shown);

/* Add a member to an object, which is begun if it is empty. */
int weir_shown_int(struct weir_buffer *object, const char *name, int64_t value) WEIR_MUST_CHECK;
int weir_shown_text(struct weir_buffer *object, const char *name, const void *bytes,
                    size_t length) WEIR_MUST_CHECK;
int weir_shown_time(struct weir_buffer *object, const char *name, int64_t us) WEIR_MUST_CHECK;
/* `json` is a value, as it is. */
int weir_shown_json(struct weir_buffer *object, const char *name, const void *json,
                    size_t length) WEIR_MUST_CHECK;
/* A builder of one row of the schema, begun; the shown keeps it. NULL without memory. */
struct weir_batch_builder *weir_shown_row(struct weir_shown *shown, struct weir_schema *schema);
/* Adds columns first .. first + count of the row built to the object. */
int weir_shown_columns(const struct weir_batch *row, int32_t first, int32_t count,
                       struct weir_buffer *object) WEIR_MUST_CHECK;
/* Adds a key's columns. WEIR_E_CORRUPT: the bytes are none. */
int weir_shown_key(struct weir_shown *shown, const struct weir_key *key, const uint8_t *bytes,
                   size_t length, struct weir_buffer *object,
                   struct weir_error *err) WEIR_MUST_CHECK;
