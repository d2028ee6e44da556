#pragma once
/* Decoders turn frames (a line, a message) into rows of a batch: the schema is compiled once into a
 * field plan, values are written straight into the columns. A frame gives one row or one reject.
 *
 * A decoded batch has the user's columns, then the meta columns (WEIR_META_*). The decoder fills
 * `_rescued` (JSON text of unknown fields), `_offset`, and `_timestamp`; the source sets `_topic`
 * and
 * `_partition`; `_ingested_at` is an int64 array left for the loop to fill from its recorded clock.
 */
#include "batch/builder.h"
#include "core/option.h"
#include "decode/reject.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_meta_column {
    WEIR_META_TOPIC,       /* string, dictionary-encoded constant: source's name or file's path */
    WEIR_META_PARTITION,   /* int32 */
    WEIR_META_OFFSET,      /* int64 */
    WEIR_META_TIMESTAMP,   /* timestamp, nullable: what the transport says; null for files */
    WEIR_META_INGESTED_AT, /* timestamp: the loop's clock */
    WEIR_META_RESCUED,     /* string, nullable */
    WEIR_META_COUNT
};

#define WEIR_DECODE_PADDING 64 /* readable bytes required after a block */
#define WEIR_DECODE_FRAME_BYTES_MAX (16 << 20)
#define WEIR_SPLIT_BYTES_MAX (4 << 20) /* of one frame in a file */

/* The user's columns followed by the meta columns; NULL without memory. A user column named like a
 * meta column is an error of the caller's (check with weir_decode_check_schema). */
struct weir_schema *weir_decode_full_schema(const struct weir_schema *user);
int weir_decode_check_schema(const struct weir_schema *user,
                             struct weir_error *err) WEIR_MUST_CHECK;

struct weir_frame {
    uint32_t start;  /* in the block */
    uint32_t length; /* bytes, without the line end */
    int64_t offset;  /* goes to _offset */
};

/* Bytes of a file on their way to becoming frames. */
struct weir_split {
    const uint8_t *bytes;
    size_t size;
    uint64_t offset;           /* of bytes[0] in its file */
    bool last;                 /* nothing follows them */
    struct weir_frame *frames; /* room for `max` */
    int32_t max;
    int32_t count; /* out: frames cut, `start` counted from bytes[0] */
    size_t used;   /* out: bytes up to the end of the last frame and of what follows it */
};

#define WEIR_SPLIT_MORE SIZE_MAX /* `begin` needs more bytes */

struct weir_decoder;

/* Appends to `builder` (begun; over the full schema) and `*rejects` (created when first needed).
 * Stops early when the builder's batch is full: *consumed says how many frames were taken. The
 * block needs WEIR_DECODE_PADDING readable bytes after it, and, for kinds that bring no `split`,
 * nothing but white space between frames and \n, \r or NUL right after each frame. Fails only for
 * memory (WEIR_E_LIMIT, WEIR_E_NOMEM: nothing of the frame at *consumed was kept). One thread at a
 * time; does not block; no malloc in steady state. */
struct weir_decoder_vtable {
    const char *name;
    const struct weir_option *options; /* what `name { … }` takes, ended by a NULL name */
    /* The columns rows will have, for the checker: one reference for the caller. The source's kind
     * and options say where frames come from (a registry's subject is named after the topic). May
     * do I/O. NULL: those of the .avsc the option "schema" names. */
    int (*columns)(const char *options_json, const char *source_kind,
                   const char *source_options_json, struct weir_schema **out,
                   struct weir_error *err);
    /* The options with what only the source can say of them (the subject of its topic), as JSON
     * text, the caller's; *out stays NULL where that is nothing. NULL: never anything. */
    int (*settle)(const char *options_json, const char *source_options_json, char **out,
                  struct weir_error *err);
    /* `options_json` as written in the source's declaration, settled; `schema` the user's columns.
     * No I/O but reading the schema file it names. */
    int (*create)(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err);
    /* The user's columns, borrowed from the decoder. */
    struct weir_schema *(*schema)(const struct weir_decoder *decoder);
    int (*decode)(struct weir_decoder *decoder, const uint8_t *block,
                  const struct weir_frame *frames, int32_t count,
                  struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                  int32_t *consumed);
    void (*destroy)(struct weir_decoder *decoder);
    /* How frames lie in a file; a transport of messages hands over one message as one frame.
     * NULL: they are its lines. Cuts what is whole; in more than WEIR_SPLIT_BYTES_MAX bytes, or in
     * the last ones, there is always a frame to be cut, or an error (WEIR_E_CORRUPT) when nothing
     * behind this byte can be read. No state: cut again from the same byte, bytes give the same
     * frames. */
    int (*split)(struct weir_decoder *decoder, struct weir_split *split, struct weir_error *err);
    /* A file begins, and with it what comes before its frames (a header): *used bytes of it, or
     * WEIR_SPLIT_MORE when it is not whole yet and these are not the last bytes. NULL: nothing
     * does. */
    int (*begin)(struct weir_decoder *decoder, const uint8_t *bytes, size_t size, bool last,
                 size_t *used, struct weir_error *err);
    /* Bytes of the first of several frames that follow each other in the body of one request; 0:
     * none is whole. NULL: a body is one frame. */
    size_t (*cut)(struct weir_decoder *decoder, const uint8_t *bytes, size_t size);
    bool is_container; /* its files are Avro containers, cut as avro_container.h has their text */
    bool is_binary;    /* frames are no text: no lines to fall back to, no byte order mark */
    bool projects;     /* its builder may have columns nobody reads: looked at, not kept */
};

/* What a decoder noticed of those who write, counted for any thread to look at (__atomic). */
struct weir_decoder_news {
    uint32_t columns; /* schemas whose fields the columns lack, or that do not fit them, where the
                         columns are the registry's newest: asking it again may help */
    uint32_t refused; /* schemas that cannot become the columns */
};

struct weir_decoder { /* head of every decoder */
    const struct weir_decoder_vtable *vtable;
    struct weir_decoder_news *news; /* its owner's, or NULL */
    bool is_whole;                  /* a body is one frame, although the kind has `cut` */
};

/* `kind`: "json". `schema` may be NULL when the options name one ({"schema": "a.avsc"}); when both
 * are given their columns must be the same (the .avsc also carries enum symbols, epoch units and
 * which nested fields may be null). */
int weir_decoder_create(struct weir_decoder **out, const char *kind, const char *options_json,
                        struct weir_schema *schema, struct weir_error *err) WEIR_MUST_CHECK;
void weir_decoder_destroy(struct weir_decoder *decoder);

static inline WEIR_MUST_CHECK int
weir_decoder_decode(struct weir_decoder *decoder, const uint8_t *block,
                    const struct weir_frame *frames, int32_t count,
                    struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                    int32_t *consumed) {
    return decoder->vtable->decode(decoder, block, frames, count, builder, rejects, consumed);
}

/* Fills the meta columns the decoder does not: `_topic`, `_partition`, `_timestamp` (null) and
 * `_ingested_at` (zero), in a batch just taken from its builder. WEIR_E_LIMIT at the pool's cap. */
int weir_decode_finish(struct weir_batch *batch, const char *topic,
                       int32_t partition) WEIR_MUST_CHECK;

/* `options_json` as the decoder's `create` wants it beside this source; the caller frees *out. */
int weir_decoder_settle(const char *kind, const char *options_json, const char *source_options_json,
                        char **out, struct weir_error *err) WEIR_MUST_CHECK;
/* As the vtable's slot says. */
int weir_decoder_columns(const char *kind, const char *options_json, const char *source_kind,
                         const char *source_options_json, struct weir_schema **out,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* NULL when no decoder has that name. */
const struct weir_decoder_vtable *weir_decoder_find(const char *kind);
/* The decoders there are, NULL after the last. */
const struct weir_decoder_vtable *weir_decoder_kind(size_t index);

#ifdef __cplusplus
}
#endif
