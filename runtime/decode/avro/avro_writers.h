#pragma once
/* The writers of a topic: their schemas by the ids of a schema registry, each asked for once. What
 * a decoder makes of a schema is its own. Private to the room; one thread. */
#include "decode/avro/avro_plan.h"
#include "decode/avro/avro_registry.h"

/* One writer's schema. */
struct avro_writer {
    int32_t id;
    int64_t first_offset; /* of its first message */
    bool readable;
    struct avro_schema schema;
    struct avro_node plan; /* the Avro decoder's */
    void *own;             /* another decoder's, freed with the writer */
    char *reason;          /* not readable: why */
    int64_t until_ns;      /* not known to the registry: when to ask again; 0: for good */
};

struct avro_writers {
    struct avro_registry *registry; /* owned */
    const char *what;               /* the decoder, for the log */
    void *context;
    /* Makes what the decoder needs of writer->schema. WEIR_E_SCHEMA: its messages are refused;
     * WEIR_E_UNAVAILABLE, WEIR_E_ENVIRONMENT: they wait, as for a registry that does not answer. */
    int (*compile)(void *context, struct avro_writer *writer, struct weir_error *err);
    /* The registry was asked; NULL: nobody wants to know. */
    void (*asked)(void *context, const struct avro_writer *writer);
    struct avro_writer **all; /* by id, ascending */
    int32_t count;
    int32_t capacity;
    struct avro_writer *last;
    int64_t told_ns;  /* when waiting for the registry was last told */
    int64_t pause_ns; /* before it is asked again; 0: it answered the last time */
    int64_t again_ns; /* when that is */
};

void avro_writer_free(struct avro_writer *writer);
void avro_writers_fini(struct avro_writers *writers);

/* Where a message of a writer that can be read could not be: its reason says whose it is. */
void avro_writers_name(const struct avro_writer *writer, struct json_reader *r);
/* Reads what a message of the registry's wire format begins with: a zero byte and the id, in four
 * bytes, big-endian; in->p is behind it. WEIR_E_DATA with r's reason. WEIR_E_LIMIT: the registry
 * cannot be reached now, the frame waits. */
int avro_writers_open(struct avro_writers *writers, struct json_reader *r, struct avro_in *in,
                      int64_t offset, struct avro_writer **out) WEIR_MUST_CHECK;
