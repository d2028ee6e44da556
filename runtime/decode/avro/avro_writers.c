#include "decode/avro/avro_writers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"

enum { WIRE_BYTES = 5, WRITERS_MAX = 100000 };

#define ASK_AGAIN_NS (INT64_C(10) * 1000000000) /* an id nobody knew may be registered since */
#define TELL_AGAIN_NS (INT64_C(10) * 1000000000)
#define PAUSE_MIN_NS (INT64_C(50) * 1000000) /* between two requests nobody answered well */
#define PAUSE_MAX_NS (INT64_C(5) * 1000000000)

void avro_writer_free(struct avro_writer *writer) {
    avro_plan_fini(&writer->plan);
    avro_schema_fini(&writer->schema);
    free(writer->own);
    free(writer->reason);
    free(writer);
}

void avro_writers_fini(struct avro_writers *writers) {
    for (int32_t i = 0; i < writers->count; i++) {
        avro_writer_free(writers->all[i]);
    }
    free(writers->all);
    avro_registry_destroy(writers->registry);
}

/* Where the id is, or would be. */
static int32_t place_of(const struct avro_writers *writers, int32_t id) {
    int32_t low = 0;
    int32_t high = writers->count;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (writers->all[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int add_writer(struct avro_writers *writers, int32_t id, struct avro_writer **out) {
    if (writers->count == writers->capacity) {
        int32_t capacity = writers->capacity == 0 ? 16 : writers->capacity * 2;
        struct avro_writer **larger =
            capacity > WRITERS_MAX ? NULL
                                   : realloc(writers->all, (size_t)capacity * sizeof(*larger));
        if (larger == NULL) {
            return WEIR_E_NOMEM;
        }
        writers->all = larger;
        writers->capacity = capacity;
    }
    struct avro_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return WEIR_E_NOMEM;
    }
    int32_t at = place_of(writers, id);
    memmove(writers->all + at + 1, writers->all + at,
            (size_t)(writers->count - at) * sizeof(*writers->all));
    writer->id = id;
    writer->first_offset = -1;
    writers->all[at] = writer;
    writers->count++;
    *out = writer;
    return WEIR_OK;
}

/* Whoever was asked cannot answer now: the next time is later. */
static int wait_for(struct avro_writers *writers, struct avro_writer *writer,
                    const struct weir_error *err) {
    avro_schema_fini(&writer->schema);
    int64_t longer = writers->pause_ns * 2;
    writers->pause_ns = longer < PAUSE_MIN_NS   ? PAUSE_MIN_NS
                        : longer > PAUSE_MAX_NS ? PAUSE_MAX_NS
                                                : longer;
    writers->again_ns = weir_clock_mono_ns() + writers->pause_ns;
    if (weir_clock_mono_ns() - writers->told_ns > TELL_AGAIN_NS) {
        writers->told_ns = weir_clock_mono_ns();
        weir_log_warn("decode", "%s waits for schema %d: %s", writers->what, (int)writer->id,
                      err->message);
    }
    return WEIR_E_LIMIT;
}

/* Asks the registry, at the message at `offset`. WEIR_E_LIMIT: it cannot be reached now; the frames
 * wait. */
static int fetch(struct avro_writers *writers, struct avro_writer *writer, int64_t offset) {
    struct weir_error err = {0};
    writer->first_offset = writer->first_offset < 0 ? offset : writer->first_offset;
    if (writers->pause_ns > 0 && weir_clock_mono_ns() < writers->again_ns) {
        return WEIR_E_LIMIT;
    }
    int rc = avro_registry_by_id(writers->registry, writer->id, &writer->schema, &err);
    if (rc == WEIR_OK) {
        rc = writers->compile(writers->context, writer, &err);
    }
    if (rc == WEIR_E_UNAVAILABLE || rc == WEIR_E_ENVIRONMENT) {
        return wait_for(writers, writer, &err);
    }
    writers->pause_ns = 0;
    writer->readable = rc == WEIR_OK;
    free(writer->reason);
    writer->reason = NULL;
    if (rc != WEIR_OK) {
        avro_schema_fini(&writer->schema);
        writer->until_ns = rc == WEIR_E_NOTFOUND ? weir_clock_mono_ns() + ASK_AGAIN_NS : 0;
        if (asprintf(&writer->reason, "schema id %d, first at offset %lld: %s", (int)writer->id,
                     (long long)writer->first_offset, err.message) < 0) {
            writer->reason = NULL;
            return WEIR_E_NOMEM;
        }
        weir_log_warn("decode", "%s messages go to quarantine: %s", writers->what, writer->reason);
    }
    if (writers->asked != NULL) {
        writers->asked(writers->context, writer);
    }
    return WEIR_OK;
}

static int find_writer(struct avro_writers *writers, int32_t id, int64_t offset,
                       struct avro_writer **out) {
    int32_t at = place_of(writers, id);
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    bool is_there = at <= writers->count;
#else
    bool is_there = at < writers->count;
#endif
    struct avro_writer *writer = is_there && writers->all[at]->id == id ? writers->all[at] : NULL;
    int rc = WEIR_OK;
    if (writer == NULL) {
        rc = add_writer(writers, id, &writer);
    }
    bool ask = rc == WEIR_OK && !writer->readable &&
               (writer->reason == NULL ||
                (writer->until_ns != 0 && weir_clock_mono_ns() > writer->until_ns));
    rc = ask ? fetch(writers, writer, offset) : rc;
    *out = writer;
    return rc;
}

void avro_writers_name(const struct avro_writer *writer, struct json_reader *r) {
    size_t length = strlen(r->reason);
    snprintf(r->reason + length, sizeof(r->reason) - length,
             " (schema id %d, first at offset %lld)", (int)writer->id,
             (long long)writer->first_offset);
}

int avro_writers_open(struct avro_writers *writers, struct json_reader *r, struct avro_in *in,
                      int64_t offset, struct avro_writer **out) {
    if (in->end - in->p < WIRE_BYTES || in->p[0] != 0) {
        return json_fail(r, 0,
                         "not a message of a schema registry: it begins with a zero byte and "
                         "the schema's id");
    }
    int32_t id = (int32_t)((uint32_t)in->p[1] << 24 | (uint32_t)in->p[2] << 16 |
                           (uint32_t)in->p[3] << 8 | in->p[4]);
    if (writers->last == NULL || writers->last->id != id || !writers->last->readable) {
        int rc = find_writer(writers, id, offset, &writers->last);
        if (rc != WEIR_OK) {
            writers->last = NULL;
            return rc;
        }
    }
    if (!writers->last->readable) {
        return json_fail(r, 1, "%s", writers->last->reason);
    }
    in->p += WIRE_BYTES;
    *out = writers->last;
    return WEIR_OK;
}
