/* The HTTP source: `http { path = "/ingest/web" }`. Requests come through the door (serve/http)
 * into the log; here the log is read, like any source, and its numbers are the positions. */
#include "source/http/http.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "source/internal.h"

enum {
    POSITION_VERSION = 1,
    POSITION_BYTES = 25, /* version, log id, number of the next event */
    BLOCK_BYTES = 1 << 20,
    BATCH_BYTES_MAX = 64 << 20,
    WAIT_MS = 100,
    FRAMES_MAX = WEIR_BATCH_ROWS_MAX,
    HEADER_BYTES_MAX = 100,
};

#define BODY_BYTES ((uint64_t)1 << 20)
#define BODY_BYTES_MAX ((uint64_t)64 << 20)
#define BLOCK_LIMIT ((size_t)BODY_BYTES_MAX + 2 * BLOCK_BYTES)
#define REPLY_TIMEOUT_US INT64_C(10000000)
#define REMEMBER_US (INT64_C(24) * 3600 * 1000000)

struct http {
    struct weir_http_path path;
    struct weir_http_counts counts;
    json_t *options;
    int64_t remember_us;
    uint64_t unread_max;
    bool lost_is_accepted;
    uint64_t next; /* event */
    uint64_t end;  /* bounded: where it ends */
    bool ended;
    struct weir_decoder *decoder;
    uint32_t columns_seen; /* of source->columns_changed */
    struct weir_batch_builder builder;
    bool has_builder;
    struct weir_buffer block;
    struct weir_frame *frames;
    int64_t *times_us;
    int32_t frame_count;
    int32_t frames_done;
    struct weir_http_frame request; /* the frame whose events go into the block */
    uint32_t request_event;         /* of it, the next */
    uint32_t request_at;
};

/* --- options ------------------------------------------------------------------------------ */

static const char *const signature_choices[] = {"github", "shopify", "custom", NULL};
static const char *const algorithm_choices[] = {"sha256", "sha1", "sha512", NULL};
static const char *const encoding_choices[] = {"hex", "base64", NULL};
static const char *const cloud_choices[] = {"envelope", "data", NULL};
static const char *const lost_choices[] = {"fail", "continue", NULL};

static const struct weir_option options_table[] = {
    {.name = "path", .form = WEIR_OPTION_TEXT, .required = true, .example = "\"/ingest/web\""},
    {.name = "max_body", .form = WEIR_OPTION_BYTES, .example = "\"1MB\""},
    {.name = "bearer", .form = WEIR_OPTION_SECRET, .example = "env \"INGEST_TOKENS\""},
    {.name = "signature", .form = WEIR_OPTION_TEXT, .choices = signature_choices},
    {.name = "secret", .form = WEIR_OPTION_SECRET, .example = "env \"WEBHOOK_SECRET\""},
    {.name = "previous_secret", .form = WEIR_OPTION_SECRET},
    {.name = "signature_header", .form = WEIR_OPTION_TEXT, .example = "\"X-Signature\""},
    {.name = "signature_prefix", .form = WEIR_OPTION_TEXT, .example = "\"sha256=\""},
    {.name = "signature_algorithm", .form = WEIR_OPTION_TEXT, .choices = algorithm_choices},
    {.name = "signature_encoding", .form = WEIR_OPTION_TEXT, .choices = encoding_choices},
    {.name = "rate", .form = WEIR_OPTION_COUNT, .example = "500"},
    {.name = "burst", .form = WEIR_OPTION_COUNT, .example = "1000"},
    {.name = "idempotency_header", .form = WEIR_OPTION_TEXT, .example = "\"Idempotency-Key\""},
    {.name = "remember", .form = WEIR_OPTION_DURATION, .example = "\"24h\""},
    {.name = "cloudevents", .form = WEIR_OPTION_TEXT, .choices = cloud_choices},
    {.name = "reply", .form = WEIR_OPTION_FLAG, .example = "true"},
    {.name = "reply_timeout", .form = WEIR_OPTION_DURATION, .example = "\"10s\""},
    {.name = "replies", .form = WEIR_OPTION_BYTES, .example = "\"64MB\""},
    {.name = "max_lag", .form = WEIR_OPTION_BYTES, .example = "\"256MB\""},
    {.name = "on_lost", .form = WEIR_OPTION_TEXT, .choices = lost_choices},
    {0},
};

static const char *text_of(const json_t *options, const char *name, const char *otherwise) {
    const char *text = json_string_value(json_object_get(options, name));
    return text != NULL ? text : otherwise;
}

static uint64_t count_of(const json_t *options, const char *name, uint64_t otherwise) {
    const json_t *value = json_object_get(options, name);
    return value != NULL ? (uint64_t)json_number_value(value) : otherwise;
}

/* As headers are looked up: lower case, with the colon. */
static int header_name(char **out, const char *name, const char *option, struct weir_error *err) {
    size_t length = strlen(name);
    if (length == 0 || length > HEADER_BYTES_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") !=
            length) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "%s = \"%.100s\" is no header's name; such as \"X-Signature\"",
                              option, name);
    }
    *out = malloc(length + 2);
    if (*out == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < length; i++) {
        (*out)[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    }
    memcpy(*out + length, ":", 2);
    return WEIR_OK;
}

static int read_signature(struct http *http, const json_t *options, struct weir_error *err) {
    struct weir_http_signature *s = &http->path.signature;
    const char *kind = text_of(options, "signature", NULL);
    bool signs = kind != NULL || json_object_get(options, "secret") != NULL;
    static const char *const own[] = {"signature_header",    "signature_prefix",
                                      "signature_algorithm", "signature_encoding",
                                      "previous_secret",     NULL};
    for (int i = 0; own[i] != NULL; i++) {
        if (!signs && json_object_get(options, own[i]) != NULL) {
            return weir_error_set(err, WEIR_E_CONFIG, "http.%s needs signature and secret", own[i]);
        }
    }
    if (!signs) {
        return WEIR_OK;
    }
    if (kind == NULL || json_object_get(options, "secret") == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "http: signed requests need both signature = \"github\" | "
                              "\"shopify\" | \"custom\" and secret = env \"…\"");
    }
    bool github = strcmp(kind, "github") == 0;
    bool shopify = strcmp(kind, "shopify") == 0;
    const char *header = github    ? "X-Hub-Signature-256"
                         : shopify ? "X-Shopify-Hmac-Sha256"
                                   : text_of(options, "signature_header", NULL);
    if (header == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "signature = \"custom\" needs signature_header = \"X-Signature\"");
    }
    for (int i = 0; (github || shopify) && i < 4; i++) {
        if (json_object_get(options, own[i]) != NULL) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "http.%s is settled by signature = \"%s\"; use \"custom\"",
                                  own[i], kind);
        }
    }
    const char *algorithm = text_of(options, "signature_algorithm", "sha256");
    s->digest = strcmp(algorithm, "sha1") == 0     ? WEIR_HTTP_SHA1
                : strcmp(algorithm, "sha512") == 0 ? WEIR_HTTP_SHA512
                                                   : WEIR_HTTP_SHA256;
    s->base64 = shopify || strcmp(text_of(options, "signature_encoding", "hex"), "base64") == 0;
    s->prefix = strdup(github ? "sha256=" : text_of(options, "signature_prefix", ""));
    if (s->prefix == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    return header_name(&s->header, header, "signature_header", err);
}

static bool is_path(const char *path) {
    return path[0] == '/' && strlen(path) < 512 &&
           strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/") ==
               strlen(path) &&
           strcmp(path, "/health") != 0 && strcmp(path, "/metrics") != 0;
}

static int read_options(struct weir_source *source, struct http *http, struct weir_error *err) {
    const json_t *options = http->options;
    const char *path = text_of(options, "path", "");
    if (!is_path(path)) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "http.path = \"%.100s\" is not a path of its own; such as "
                              "\"/ingest/web\" (/health and /metrics are taken)",
                              path);
    }
    http->path.source = source->name;
    http->path.decoder = source->decoder_kind;
    http->path.path = strdup(path);
    http->path.max_body_bytes = count_of(options, "max_body", BODY_BYTES);
    http->path.rate = count_of(options, "rate", 0);
    http->path.burst = count_of(options, "burst", http->path.rate);
    http->path.cloud_data = strcmp(text_of(options, "cloudevents", "envelope"), "data") == 0;
    http->remember_us = (int64_t)count_of(options, "remember", (uint64_t)REMEMBER_US);
    http->unread_max = count_of(options, "max_lag", 0);
    http->path.replies = json_is_true(json_object_get(options, "reply"));
    http->path.reply_timeout_us =
        (int64_t)count_of(options, "reply_timeout", (uint64_t)REPLY_TIMEOUT_US);
    http->lost_is_accepted = strcmp(text_of(options, "on_lost", "fail"), "continue") == 0;
    if (http->path.path == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    if (http->path.max_body_bytes == 0 || http->path.max_body_bytes > BODY_BYTES_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "http.max_body is more than 0 and at most 64MB");
    }
    static const char *const of_replies[] = {"reply_timeout", "replies", NULL};
    for (int i = 0; of_replies[i] != NULL; i++) {
        if (!http->path.replies && json_object_get(options, of_replies[i]) != NULL) {
            return weir_error_set(err, WEIR_E_CONFIG, "http.%s needs reply = true", of_replies[i]);
        }
    }
    if (http->path.reply_timeout_us <= 0) {
        return weir_error_set(err, WEIR_E_CONFIG, "http.reply_timeout is more than 0");
    }
    int rc = read_signature(http, options, err);
    if (rc == WEIR_OK && http->remember_us > 0) {
        rc = header_name(&http->path.key_header,
                         text_of(options, "idempotency_header", "Idempotency-Key"),
                         "idempotency_header", err);
    }
    return rc;
}

static int init(struct weir_source *source, const char *options_json, struct weir_error *err) {
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    source->state = http;
    weir_buffer_init(&http->block, BLOCK_LIMIT);
    http->options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    return json_is_object(http->options)
               ? read_options(source, http, err)
               : weir_error_set(err, WEIR_E_CONFIG, "options are not an object");
}

static void fini(struct weir_source *source) {
    struct http *http = source->state;
    if (http == NULL) {
        return;
    }
    weir_http_log_close(http->path.log);
    if (http->has_builder) {
        weir_batch_builder_fini(&http->builder);
    }
    weir_decoder_destroy(http->decoder);
    weir_decoder_destroy(http->path.cutter);
    weir_buffer_fini(&http->block);
    weir_secret_free(http->path.tokens);
    weir_secret_free(http->path.signature.secret);
    weir_secret_free(http->path.signature.previous_secret);
    free(http->path.signature.header);
    free(http->path.signature.prefix);
    free(http->path.key_header);
    free(http->path.path);
    free(http->frames);
    free(http->times_us);
    json_decref(http->options);
    free(http);
    source->state = NULL;
}

/* --- opening ------------------------------------------------------------------------------ */

static int resolve(const struct http *http, const char *name, char **out, struct weir_error *err) {
    const json_t *reference = json_object_get(http->options, name);
    if (reference == NULL) {
        return WEIR_OK;
    }
    int rc = weir_secret_resolve(reference, out, err);
    if (rc == WEIR_OK && (*out)[strspn(*out, " \t\r\n,")] == '\0') {
        rc = weir_error_set(err, WEIR_E_ENVIRONMENT, "the secret is empty");
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "http.%s", name);
}

/* Without the log the ledger's position names, what was acknowledged is gone. */
static int restore(struct weir_source *source, struct http *http,
                   const struct weir_position *position, struct weir_error *err) {
    if (position->size != POSITION_BYTES || position->bytes[0] != POSITION_VERSION) {
        return weir_error_set(err, WEIR_E_VERSION, "the position is not of a log of requests");
    }
    uint64_t next;
    memcpy(&next, position->bytes + 17, sizeof(next));
    bool same = memcmp(position->bytes + 1, weir_http_log_id(http->path.log), 16) == 0;
    if (same && next <= weir_http_log_end(http->path.log) &&
        next >= weir_http_log_first(http->path.log)) {
        http->next = next;
        return WEIR_OK;
    }
    if (http->lost_is_accepted) {
        http->next = 0;
        return WEIR_OK;
    }
    return weir_error_set(err, WEIR_E_STATE,
                          "the ledger has read up to event %" PRIu64
                          ", but %s is another log or a part of it; put the folder back, or say "
                          "on_lost = \"continue\" to go on with what is there",
                          next, source->log_path);
}

static int open_source(struct weir_source *source, const struct weir_position *positions,
                       int32_t count, struct weir_error *err) {
    struct http *http = source->state;
    source->partitions = 1;
    if (source->log_path == NULL) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "what came by HTTP is only in the log of a pipeline that has run");
    }
    bool reads_only = source->instance == NULL;
    struct weir_http_log_options options = {.path = source->log_path,
                                            .read_only = reads_only,
                                            .keep_us = source->keep_us,
                                            .remember_us = http->remember_us,
                                            .unread_max = http->unread_max};
    int rc = weir_http_log_open(&http->path.log, &options, err);
    if (rc == WEIR_OK && !reads_only && !source->until_end) {
        rc = resolve(http, "bearer", &http->path.tokens, err);
        rc = rc != WEIR_OK ? rc : resolve(http, "secret", &http->path.signature.secret, err);
        rc = rc != WEIR_OK
                 ? rc
                 : resolve(http, "previous_secret", &http->path.signature.previous_secret, err);
    }
    if (rc == WEIR_OK && count > 0 && positions[0].size > 0) {
        rc = restore(source, http, &positions[0], err);
    }
    if (rc == WEIR_OK) {
        rc = weir_http_log_seek(http->path.log, http->next, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    http->next = http->next == 0 ? weir_http_log_first(http->path.log) : http->next;
    weir_http_log_committed(http->path.log, http->next);
    http->end = source->until_end ? weir_http_log_end(http->path.log) : UINT64_MAX;
    http->frames = calloc(FRAMES_MAX, sizeof(*http->frames));
    http->times_us = calloc(FRAMES_MAX, sizeof(*http->times_us));
    if (http->frames == NULL || http->times_us == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    rc = weir_decoder_create(&http->decoder, source->decoder_kind, source->decoder_options,
                             source->user_schema, err);
    if (rc == WEIR_OK && http->decoder->vtable->cut != NULL && !http->decoder->is_whole) {
        rc = weir_decoder_create(&http->path.cutter, source->decoder_kind, source->decoder_options,
                                 source->user_schema, err);
    }
    if (rc == WEIR_OK) {
        http->decoder->news = &source->news;
        rc = weir_batch_builder_init(&http->builder, source->pool, source->full_schema,
                                     source->batch_rows, BATCH_BYTES_MAX, err);
        http->has_builder = rc == WEIR_OK;
    }
    return rc;
}

const struct weir_http_path *weir_source_http_path(const struct weir_source *source) {
    const struct http *http = source->state;
    bool takes = source->vtable == &weir_source_http && source->instance != NULL &&
                 !source->until_end && http->path.log != NULL;
    return takes ? &http->path : NULL;
}

struct weir_http_counts *weir_source_http_counts(struct weir_source *source) {
    struct http *http = source->state;
    return &http->counts;
}

/* --- batches ------------------------------------------------------------------------------ */

/* The request's events from request_event on, as frames of the block; false when it is full. */
static int add_events(struct http *http, int32_t max_rows, bool *full) {
    struct weir_http_frame *r = &http->request;
    *full = false;
    while (http->request_event < r->count) {
        uint32_t size;
        memcpy(&size, r->payload + http->request_at, 4);
        uint64_t number = r->first + http->request_event;
        *full = http->frame_count == max_rows || number >= http->end ||
                (http->frame_count > 0 && http->block.size + size > BLOCK_BYTES);
        if (*full) {
            return WEIR_OK;
        }
        if (number >= http->next) {
            int rc = weir_buffer_reserve(&http->block, (size_t)size + 1 + WEIR_DECODE_PADDING);
            if (rc != WEIR_OK) {
                return rc;
            }
            http->frames[http->frame_count] = (struct weir_frame){
                .start = (uint32_t)http->block.size, .length = size, .offset = (int64_t)number};
            http->times_us[http->frame_count++] = r->time_us;
            memcpy(http->block.data + http->block.size, r->payload + http->request_at + 4, size);
            http->block.size += size;
            http->block.data[http->block.size++] = '\n';
        }
        http->request_at += 4 + size;
        http->request_event++;
    }
    return WEIR_OK;
}

/* Frames for one batch from as many requests as there are. */
static int gather(struct http *http, int32_t max_rows, struct weir_error *err) {
    bool full = false;
    int rc = WEIR_OK;
    http->frame_count = http->frames_done = 0;
    weir_buffer_clear(&http->block);
    while (rc == WEIR_OK && !full) {
        if (http->request_event == http->request.count) {
            weir_http_log_done(http->path.log);
            http->request_event = http->request_at = 0;
            rc = weir_http_log_read(http->path.log, &http->request, err);
            if (rc != WEIR_OK || http->request.count == 0) {
                break;
            }
        }
        rc = add_events(http, max_rows, &full);
        if (rc != WEIR_OK) {
            weir_error_set(err, rc, "no memory for a request of %u bytes",
                           http->request.payload_size);
        }
    }
    if (rc == WEIR_OK && http->frame_count > 0) {
        memset(http->block.data + http->block.size, 0, WEIR_DECODE_PADDING);
    }
    return rc;
}

static int set_times(struct http *http, int32_t from, struct weir_batch *batch) {
    if (batch->rows == 0) {
        return WEIR_OK;
    }
    struct weir_column *meta = &batch->columns[batch->column_count - WEIR_META_COUNT];
    const int64_t *numbers = meta[WEIR_META_OFFSET].values;
    int64_t *times = weir_batch_alloc(batch, (size_t)batch->rows * sizeof(*times));
    if (times == NULL) {
        return WEIR_E_LIMIT;
    }
    for (int32_t row = 0, frame = from; row < batch->rows; row++) {
        while (http->frames[frame].offset != numbers[row]) {
            frame++;
        }
        times[row] = http->times_us[frame];
    }
    meta[WEIR_META_TIMESTAMP].values = times;
    meta[WEIR_META_TIMESTAMP].validity = NULL;
    meta[WEIR_META_TIMESTAMP].null_count = 0;
    return WEIR_OK;
}

static struct weir_source_batch *wrap(struct weir_source *source, struct weir_batch *batch,
                                      struct weir_reject_batch *rejects, uint64_t next) {
    struct http *http = source->state;
    struct weir_source_batch *made =
        source_batch_create(source->pool, batch, rejects, POSITION_BYTES);
    if (made != NULL) {
        uint8_t *position = source_position(made);
        position[0] = POSITION_VERSION;
        memcpy(position + 1, weir_http_log_id(http->path.log), 16);
        memcpy(position + 17, &next, sizeof(next));
        made->rows = batch->rows + (rejects != NULL ? rejects->count : 0);
    }
    return made;
}

/* One batch of the frames gathered; none is lost when there is no memory (WEIR_E_LIMIT). */
static int decode(struct weir_source *source, struct weir_source_batch **out) {
    struct http *http = source->state;
    int32_t from = http->frames_done;
    int32_t count = http->frame_count - from;
    int32_t consumed = 0;
    struct weir_reject_batch *rejects = NULL;
    struct weir_batch *batch = NULL;
    if (source_columns_changed(source, http->columns_seen)) {
        source_renew(source, &http->columns_seen, &http->decoder, &http->builder, NULL, NULL,
                     BATCH_BYTES_MAX);
    }
    int rc = weir_batch_builder_begin_rows(&http->builder, count > 0 ? count : 1);
    if (rc != WEIR_OK) {
        return WEIR_E_LIMIT;
    }
    if (count > 0) {
        rc = weir_decoder_decode(http->decoder, http->block.data, http->frames + from, count,
                                 &http->builder, &rejects, &consumed);
        rc = rc == WEIR_E_LIMIT && consumed > 0 ? WEIR_OK : rc;
    }
    if (rc == WEIR_OK) {
        batch = weir_batch_builder_take(&http->builder);
        rc = batch == NULL ? WEIR_E_LIMIT : weir_decode_finish(batch, source->name, 0);
    }
    if (rc == WEIR_OK) {
        rc = set_times(http, from, batch);
    }
    if (rc == WEIR_OK && rejects != NULL) {
        rc = weir_reject_batch_set_topic(rejects, source->name);
    }
    const struct weir_frame *frames = http->frames;
    int32_t last = from + consumed - 1;
    uint64_t next = consumed > 0 ? (uint64_t)frames[last].offset + 1 : http->next;
    if (rc == WEIR_OK) {
        *out = wrap(source, batch, rejects, next);
        rc = *out == NULL ? WEIR_E_LIMIT : WEIR_OK;
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        weir_reject_batch_destroy(rejects);
        return rc;
    }
    if (consumed > 0) {
        (*out)->hash = XXH3_64bits(http->block.data + frames[from].start,
                                   frames[last].start + frames[last].length - frames[from].start);
    }
    http->frames_done += consumed;
    http->next = next;
    return WEIR_OK;
}

static int next(struct weir_source *source, int32_t partition, int32_t max_rows,
                struct weir_source_batch **out, struct weir_error *err) {
    struct http *http = source->state;
    (void)partition;
    if (http->ended) {
        return WEIR_OK;
    }
    int rc = WEIR_OK;
    if (http->frames_done == http->frame_count) {
        int32_t most = max_rows < FRAMES_MAX ? max_rows : FRAMES_MAX;
        rc = gather(http, http->path.replies ? 1 : most, err); /* each command on its own */
    }
    bool end = source->until_end && http->frame_count == 0;
    if (rc != WEIR_OK || (http->frame_count == 0 && !end)) {
        return rc;
    }
    rc = decode(source, out);
    if (rc == WEIR_E_NOMEM) {
        return weir_error_set(err, rc, "out of memory for a batch");
    }
    if (rc == WEIR_OK && end) {
        (*out)->end = http->ended = true;
    }
    return rc;
}

static int begin(struct weir_source *source, int32_t *lanes, struct weir_error *err) {
    (void)source;
    (void)err;
    *lanes = 1;
    return WEIR_OK;
}

static int serve(struct weir_source *source, int32_t lane, struct source_outlet *outlet,
                 bool *ended, struct weir_error *err) {
    struct http *http = source->state;
    struct weir_source_batch *batch = NULL;
    int rc = weir_source_next(source, lane, 0, &batch, err);
    if (rc == WEIR_E_LIMIT) {
        *ended = source_outlet_wait_for_memory(outlet);
        return WEIR_OK;
    }
    if (rc == WEIR_OK && batch == NULL) {
        (void)weir_signal_wait(weir_http_log_signal(http->path.log), WAIT_MS);
    } else if (rc == WEIR_OK) {
        bool end = batch->end;
        *ended = !source_outlet_push(outlet, batch) || end;
    }
    return rc;
}

static void interrupt(struct weir_source *source) {
    struct http *http = source->state;
    weir_signal_raise(weir_http_log_signal(http->path.log));
}

static void committed(struct weir_source *source, int32_t partition,
                      const struct weir_position *position) {
    struct http *http = source->state;
    (void)partition;
    if (position->size == POSITION_BYTES) {
        uint64_t number;
        memcpy(&number, position->bytes + 17, sizeof(number));
        weir_http_log_committed(http->path.log, number);
    }
}

static int figures(struct weir_source *source, struct weir_buffer *out) {
    struct http *http = source->state;
    struct weir_http_log_figures log;
    if (http->path.log == NULL) {
        return WEIR_OK;
    }
    weir_http_log_figures(http->path.log, &log);
    int rc = weir_buffer_printf(out, "\"path\":\"%s\",\"requests\":{", http->path.path);
    const char *comma = "";
    for (int code = 0; code < WEIR_HTTP_CODES && rc == WEIR_OK; code++) {
        uint64_t count = atomic_load_explicit(&http->counts.answers[code], memory_order_relaxed);
        if (count > 0) {
            rc = weir_buffer_printf(out, "%s\"%d\":%" PRIu64, comma, code, count);
            comma = ",";
        }
    }
    return rc != WEIR_OK ? rc
                         : weir_buffer_printf(out,
                                              "},\"body_bytes\":%" PRIu64 ",\"repeats\":%" PRIu64
                                              ",\"events\":%" PRIu64 ",\"lag_bytes\":%" PRIu64
                                              ",\"log_bytes\":%" PRIu64 ",\"keys\":%" PRIu64
                                              ",\"syncs\":%" PRIu64 ",\"sync_max_us\":%" PRIi64,
                                              atomic_load(&http->counts.body_bytes),
                                              atomic_load(&http->counts.repeats), log.events,
                                              log.unread_bytes, log.kept_bytes, log.keys,
                                              log.groups, log.sync_max_us);
}

static int describe(const struct weir_position *position, struct weir_buffer *out) {
    uint64_t number = 0;
    if (position->size == POSITION_BYTES) {
        memcpy(&number, position->bytes + 17, sizeof(number));
    }
    return weir_buffer_printf(out, "event %" PRIu64, number);
}

const struct weir_source_vtable weir_source_http = {
    .name = "http",
    .options = options_table,
    .needs_decoder = true,
    .columns_change = true,
    .init = init,
    .open = open_source,
    .next = next,
    .begin = begin,
    .serve = serve,
    .interrupt = interrupt,
    .committed = committed,
    .figures = figures,
    .fini = fini,
    .describe = describe,
};
