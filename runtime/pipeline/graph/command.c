/* The body is JSON: {"event":12,"version":3,"emitted":{"bank.entry":[{…}]}} or
 * {"event":12,"rejected":[{"dataset":…,"expectation":…,"error":…}]}. */
#include "pipeline/graph/command.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "lake/delta/table.h"
#include "state/replies.h"

enum {
    DATASETS_MAX = 32,
    HTTP_OK = 200,
    HTTP_CONFLICT = 409,
    HTTP_REFUSED = 422,
    /* Both together leave room for names and brackets. */
    EMITTED_BYTES_MAX = WEIR_REPLY_BYTES_MAX / 2,
    REJECTED_BYTES_MAX = WEIR_REPLY_BYTES_MAX / 4
};

struct emitted {
    char name[256];
    struct weir_buffer rows;
};

struct weir_command {
    bool open;
    uint64_t number;
    struct emitted emitted[DATASETS_MAX];
    int32_t emitted_count;
    size_t emitted_bytes;
    bool cut; /* more was emitted than a reply holds */
    struct weir_buffer rejected;
    int64_t version; /* -1: its key has none */
    bool conflict;
    struct weir_buffer body;
};

struct weir_command *weir_command_create(void) {
    struct weir_command *c = calloc(1, sizeof(*c));
    if (c != NULL) {
        for (int i = 0; i < DATASETS_MAX; i++) {
            weir_buffer_init(&c->emitted[i].rows, WEIR_REPLY_BYTES_MAX);
        }
        weir_buffer_init(&c->rejected, REJECTED_BYTES_MAX);
        weir_buffer_init(&c->body, WEIR_REPLY_BYTES_MAX);
    }
    return c;
}

void weir_command_destroy(struct weir_command *c) {
    if (c == NULL) {
        return;
    }
    for (int i = 0; i < DATASETS_MAX; i++) {
        weir_buffer_fini(&c->emitted[i].rows);
    }
    weir_buffer_fini(&c->rejected);
    weir_buffer_fini(&c->body);
    free(c);
}

void weir_command_begin(struct weir_command *c, uint64_t number) {
    c->open = true;
    c->number = number;
    c->emitted_count = 0;
    c->emitted_bytes = 0;
    c->cut = c->conflict = false;
    c->version = -1;
    weir_buffer_clear(&c->rejected);
}

uint64_t weir_command_number(const struct weir_command *c) {
    return c->number;
}

bool weir_command_open(const struct weir_command *c) {
    return c != NULL && c->open;
}

static struct emitted *find(struct weir_command *c, const char *dataset) {
    for (int32_t i = 0; i < c->emitted_count; i++) {
        if (strcmp(c->emitted[i].name, dataset) == 0) {
            return &c->emitted[i];
        }
    }
    if (c->emitted_count == DATASETS_MAX) {
        return NULL;
    }
    struct emitted *emitted = &c->emitted[c->emitted_count++];
    snprintf(emitted->name, sizeof(emitted->name), "%s", dataset);
    weir_buffer_clear(&emitted->rows);
    return emitted;
}

/* Rows that change are told as they are now, and as gone where they are. */
static bool is_told(const struct weir_batch *batch, int32_t change, int32_t row) {
    return change < 0 || ((const int8_t *)batch->columns[change].values)[row] != WEIR_CHANGE_BEFORE;
}

int weir_command_emitted(struct weir_command *c, const char *dataset,
                         const struct weir_batch *batch, const int32_t *sel, int32_t count,
                         struct weir_error *err) {
    struct emitted *emitted = count > 0 && !c->cut ? find(c, dataset) : NULL;
    int32_t change = weir_schema_find(batch->schema, WEIR_CHANGE_COLUMN);
    for (int32_t i = 0; emitted != NULL && i < count; i++) {
        size_t mark = emitted->rows.size;
        if (!is_told(batch, change, sel[i])) {
            continue;
        }
        int rc = mark > 0 ? weir_buffer_append_text(&emitted->rows, ",") : WEIR_OK;
        rc = rc == WEIR_OK ? weir_delta_row_json(batch, sel[i], &emitted->rows) : rc;
        if (rc == WEIR_E_NOMEM) {
            return weir_error_set(err, rc, "a reply: out of memory");
        }
        c->emitted_bytes += emitted->rows.size - mark;
        if (rc != WEIR_OK || c->emitted_bytes > EMITTED_BYTES_MAX) {
            emitted->rows.size = mark;
            c->cut = true;
            break;
        }
    }
    c->cut |= emitted == NULL && count > 0;
    return WEIR_OK;
}

int weir_command_rejected(struct weir_command *c, const char *dataset, const char *reason,
                          const char *text, struct weir_error *err) {
    struct weir_buffer *out = &c->rejected;
    size_t mark = out->size;
    int rc = weir_buffer_append_text(out, mark > 0 ? ",{\"dataset\":" : "{\"dataset\":");
    rc = rc == WEIR_OK ? weir_buffer_append_json(out, dataset, strlen(dataset)) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, ",\"expectation\":") : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_json(out, reason, strlen(reason)) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, ",\"error\":") : rc;
    if (rc == WEIR_OK) {
        rc = text != NULL ? weir_buffer_append_json(out, text, strlen(text))
                          : weir_buffer_append_text(out, "null");
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
    if (rc == WEIR_E_LIMIT && mark > 0) { /* the first say enough */
        out->size = mark;
        rc = WEIR_OK;
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "a reply: out of memory");
}

void weir_command_version(struct weir_command *c, int64_t version, bool conflict) {
    c->version = version;
    c->conflict |= conflict;
}

static int put_emitted(const struct weir_command *c, struct weir_buffer *out) {
    int rc = weir_buffer_append_text(out, ",\"emitted\":{");
    for (int32_t i = 0; rc == WEIR_OK && i < c->emitted_count; i++) {
        const struct emitted *emitted = &c->emitted[i];
        rc = i > 0 ? weir_buffer_append_text(out, ",") : rc;
        rc =
            rc == WEIR_OK ? weir_buffer_append_json(out, emitted->name, strlen(emitted->name)) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append_text(out, ":[") : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(out, emitted->rows.data, emitted->rows.size) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append_text(out, "]") : rc;
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
    return rc == WEIR_OK && c->cut ? weir_buffer_append_text(out, ",\"cut\":true") : rc;
}

int weir_command_end(struct weir_command *c, int *status, struct weir_span *body,
                     struct weir_error *err) {
    struct weir_buffer *out = &c->body;
    bool refused = c->rejected.size > 0;
    c->open = false;
    weir_buffer_clear(out);
    int rc = weir_buffer_printf(out, "{\"event\":%" PRIu64, c->number);
    if (rc == WEIR_OK && c->version >= 0) {
        rc = weir_buffer_printf(out, ",\"version\":%" PRId64, c->version);
    }
    if (rc == WEIR_OK && refused) {
        rc = weir_buffer_append_text(out, ",\"rejected\":[");
        rc = rc == WEIR_OK ? weir_buffer_append(out, c->rejected.data, c->rejected.size) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append_text(out, "]") : rc;
    }
    if (rc == WEIR_OK && (!refused || c->emitted_count > 0)) {
        rc = put_emitted(c, out);
    }
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, "}\n") : rc;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "a reply: out of memory");
    }
    *status = !refused ? HTTP_OK : c->conflict ? HTTP_CONFLICT : HTTP_REFUSED;
    *body = (struct weir_span){out->data, out->size};
    return WEIR_OK;
}
