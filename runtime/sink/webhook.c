/* The webhook sink: each row is one POST of JSON, for people to see: alerts. An effect is the
 * bodies of an epoch, a line each; applying it sends them. At least once: which record was sent is
 * noted in a file beside the ledger; what a crash leaves undone is sent again, under the same key.
 * A service that does not answer holds nobody
 * up for long: a row is tried for `retry_for`, then given up, said and counted; the rows behind it
 * get one short chance each until one goes through. */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/http.h"
#include "core/log.h"
#include "sink/encode.h"
#include "sink/sink.h"

enum {
    ROWS_MAX = 100, /* an epoch: more people do not read */
    ROW_BYTES_MAX = 16 << 10,
    EFFECT_BYTES_MAX = 4 << 20,
    RETRY_MS = 60000,
    AGAIN_MS = 1000, /* where the row before did not go through */
    DRAIN_MS = 10000,
    ATTEMPT_MS = 10000,
};

struct webhook {
    struct weir_sink_config config; /* strings borrowed */
    json_t *options;
    char *url;
    char *token; /* or NULL */
    int64_t retry_ms;
    struct weir_http_client *client;

    /* worker */
    void *encoder;
    struct weir_buffer bodies;
    struct weir_buffer row;
    int64_t rows;

    /* applier */
    int64_t deadline_ns;
    uint64_t noted;  /* sent before the start */
    uint64_t record; /* at hand, and the row of it */
    int32_t number;
    bool failing;
    int64_t sent; /* atomic, as the next */
    int64_t failed;
};

/* --- life ------------------------------------------------------------------------------------- */

static void destroy(void *self) {
    struct webhook *hook = self;
    weir_encoder_json.destroy(hook->encoder);
    weir_http_client_destroy(hook->client);
    weir_secret_free(hook->url);
    weir_secret_free(hook->token);
    weir_buffer_fini(&hook->bodies);
    weir_buffer_fini(&hook->row);
    weir_schema_unref(hook->config.schema);
    json_decref(hook->options);
    free(hook);
}

static int make_encoder(struct webhook *hook, struct weir_error *err) {
    struct weir_schema *schema = hook->config.schema;
    bool *included = calloc((size_t)schema->count + 1, sizeof(*included));
    if (included == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", hook->config.name);
    }
    for (int32_t i = 0; i < schema->count; i++) {
        included[i] = true;
    }
    struct weir_encoder_config config = {
        .name = hook->config.name, .options_json = "{}", .schema = schema, .included = included};
    int rc = weir_encoder_json.create(&config, &hook->encoder, err);
    free(included);
    return rc;
}

static int create(const struct weir_sink_config *config, void **self, struct weir_error *err) {
    struct webhook *hook = calloc(1, sizeof(*hook));
    if (hook == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name);
    }
    hook->config = *config;
    hook->config.schema = config->schema != NULL ? weir_schema_ref(config->schema) : NULL;
    weir_buffer_init(&hook->bodies, EFFECT_BYTES_MAX);
    weir_buffer_init(&hook->row, EFFECT_BYTES_MAX);
    hook->options = json_loads(config->options_json != NULL ? config->options_json : "{}", 0, NULL);
    json_t *retry = json_object_get(hook->options, "retry_for");
    hook->retry_ms = json_is_integer(retry) ? json_integer_value(retry) / 1000 : RETRY_MS;
    int rc = hook->options == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name)
             : config->schema != NULL ? make_encoder(hook, err)
                                      : WEIR_OK;
    if (rc != WEIR_OK) {
        destroy(hook);
        return rc;
    }
    *self = hook;
    return WEIR_OK;
}

/* Whether the row at hand has had its time. */
static bool over(void *context) {
    const struct webhook *hook = context;
    const struct weir_sink_config *config = &hook->config;
    return weir_clock_mono_ns() > hook->deadline_ns ||
           (config->stop != NULL && config->stop(config->stop_context));
}

static void note_path(const struct webhook *hook, const char *more, char *out, size_t size) {
    snprintf(out, size, "%s/webhook-%s%s", hook->config.folder, hook->config.name, more);
}

/* The record sent last, as noted; where that cannot be read the ledger's word is all there is. */
static uint64_t read_note(const struct webhook *hook) {
    char path[1400];
    uint64_t record = WEIR_SINK_NO_MARKER;
    note_path(hook, "", path, sizeof(path));
    FILE *file = hook->config.folder != NULL ? fopen(path, "re") : NULL;
    if (file != NULL && fscanf(file, "%" SCNu64, &record) != 1) {
        record = WEIR_SINK_NO_MARKER;
    }
    if (file != NULL) {
        fclose(file);
    }
    return record;
}

/* A note that cannot be written costs a message sent twice, after a restart. */
static void write_note(const struct webhook *hook, uint64_t record) {
    char path[1400];
    char part[1400];
    char text[32];
    int size = snprintf(text, sizeof(text), "%" PRIu64 "\n", record);
    note_path(hook, "", path, sizeof(path));
    note_path(hook, ".part", part, sizeof(part));
    int fd = hook->config.folder != NULL
                 ? open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)
                 : -1;
    if (fd < 0) {
        return;
    }
    bool good = write(fd, text, (size_t)size) == size && fsync(fd) == 0;
    close(fd);
    if (!good || rename(part, path) != 0) {
        unlink(part);
    }
}

static int start(void *self, uint64_t *marker, struct weir_error *err) {
    struct webhook *hook = self;
    const json_t *url = json_object_get(hook->options, "url");
    const json_t *token = json_object_get(hook->options, "token");
    struct weir_http_options options = {
        .attempt_timeout_ms = ATTEMPT_MS,
        .ca_file = json_string_value(json_object_get(hook->options, "ca")),
        .stop = over,
        .stop_context = hook,
    };
    *marker = WEIR_SINK_NO_MARKER; /* of which `apply` knows more */
    hook->noted = read_note(hook);
    int rc = hook->url == NULL && url != NULL ? weir_secret_resolve(url, &hook->url, err) : WEIR_OK;
    if (rc == WEIR_OK && hook->token == NULL && token != NULL) {
        rc = weir_secret_resolve(token, &hook->token, err);
    }
    if (rc == WEIR_OK && hook->url != NULL && strncmp(hook->url, "http://", 7) != 0 &&
        strncmp(hook->url, "https://", 8) != 0) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "the url is no http:// or https:// address");
    }
    if (rc == WEIR_OK && hook->client == NULL) {
        rc = weir_http_client_create(&options, &hook->client, err);
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "webhook of %s", hook->config.name);
}

static int evolve(void *self, struct weir_schema *schema, struct weir_error *err) {
    struct webhook *hook = self;
    weir_encoder_json.destroy(hook->encoder);
    hook->encoder = NULL;
    weir_schema_unref(hook->config.schema);
    hook->config.schema = weir_schema_ref(schema);
    return make_encoder(hook, err);
}

/* --- rows ------------------------------------------------------------------------------------- */

/* {"text":"…","pipeline":…,"dataset":…,"row":…}: what chat services show is `text`. */
static int put_body(struct webhook *hook, const char *text, size_t size, const char *row) {
    struct weir_buffer *out = &hook->bodies;
    const char *pipeline = hook->config.pipeline;
    int rc = weir_buffer_printf(out, "{\"text\":");
    rc = rc == WEIR_OK ? weir_encode_json_text(text, size, out) : rc;
    rc = rc == WEIR_OK ? weir_buffer_printf(out, ",\"pipeline\":") : rc;
    rc = rc == WEIR_OK ? weir_encode_json_text(pipeline, strlen(pipeline), out) : rc;
    rc = rc == WEIR_OK ? weir_buffer_printf(out, ",\"dataset\":") : rc;
    rc = rc == WEIR_OK ? weir_encode_json_text(hook->config.name, strlen(hook->config.name), out)
                       : rc;
    return rc == WEIR_OK ? weir_buffer_printf(out, ",\"row\":%s}\n", row) : rc;
}

static int put_row(struct webhook *hook, int32_t row, struct weir_error *err) {
    struct weir_buffer text;
    weir_buffer_clear(&hook->row);
    int rc = weir_encoder_json.row(hook->encoder, row, &hook->row, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool whole = hook->row.size <= ROW_BYTES_MAX;
    weir_buffer_init(&text, 2 * ROW_BYTES_MAX);
    rc = weir_buffer_printf(&text, "%s: %s: %.*s", hook->config.pipeline, hook->config.name,
                            whole ? (int)hook->row.size : 0, (const char *)hook->row.data);
    rc = rc == WEIR_OK ? weir_buffer_append(&hook->row, "", 1) : rc;
    rc = rc == WEIR_OK ? put_body(hook, (const char *)text.data, text.size,
                                  whole ? (const char *)hook->row.data : "null")
                       : rc;
    weir_buffer_fini(&text);
    return rc;
}

static int write_rows(void *self, struct weir_batch *batch, const int32_t *sel, int32_t count,
                      struct weir_error *err) {
    struct webhook *hook = self;
    struct weir_error why = {0};
    int rc = weir_encoder_json.begin(hook->encoder, batch, &why);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        if (hook->rows++ < ROWS_MAX) {
            rc = put_row(hook, sel != NULL ? sel[i] : i, &why);
        }
    }
    if (rc != WEIR_OK && why.code == WEIR_OK) {
        weir_error_set(&why, rc, "the rows of one epoch do not fit");
    }
    if (rc != WEIR_OK && err != NULL) {
        *err = why;
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "write %s", hook->config.name);
}

static int seal(void *self, uint64_t epoch, struct weir_buffer *effect, struct weir_error *err) {
    struct webhook *hook = self;
    int rc = WEIR_OK;
    (void)epoch;
    if (hook->rows > ROWS_MAX) {
        char text[512];
        int size =
            snprintf(text, sizeof(text), "%.200s: %.200s: and %lld rows more",
                     hook->config.pipeline, hook->config.name, (long long)(hook->rows - ROWS_MAX));
        rc = put_body(hook, text, (size_t)size, "null");
    }
    if (rc == WEIR_OK && hook->bodies.size > 0) {
        rc = weir_buffer_append(effect, hook->bodies.data, hook->bodies.size);
    }
    weir_buffer_clear(&hook->bodies);
    hook->rows = 0;
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "seal %s: out of memory", hook->config.name);
}

/* --- sending ---------------------------------------------------------------------------------- */

static int prepare(void *context, struct weir_buffer *url, struct curl_slist **headers,
                   struct weir_error *err) {
    const struct webhook *hook = context;
    int rc = weir_buffer_append(url, hook->url, strlen(hook->url));
    char key[600];
    snprintf(key, sizeof(key), "Idempotency-Key: %.64s/%.400s/%" PRIu64 "/%d", hook->config.log,
             hook->config.name, hook->record, hook->number);
    struct curl_slist *list = curl_slist_append(*headers, "Content-Type: application/json");
    *headers = list != NULL ? list : *headers;
    list = list != NULL ? curl_slist_append(list, key) : NULL;
    if (list != NULL && hook->token != NULL) {
        struct weir_buffer line;
        weir_buffer_init(&line, 64 << 10);
        *headers = list;
        int put = weir_buffer_printf(&line, "Authorization: Bearer %s", hook->token);
        list = put == WEIR_OK ? curl_slist_append(list, weir_buffer_text(&line)) : NULL;
        if (line.size > 0) {
            memset(line.data, 0, line.size);
        }
        weir_buffer_fini(&line);
    }
    *headers = list != NULL ? list : *headers;
    return rc == WEIR_OK && list != NULL ? WEIR_OK
                                         : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

static void send_one(struct webhook *hook, const char *body, size_t size) {
    const struct weir_sink_config *config = &hook->config;
    struct weir_error err = {0};
    struct weir_http_response response = {0};
    char what[300];
    snprintf(what, sizeof(what), "alert of %.200s", config->name);
    struct weir_http_request request = {.method = "POST",
                                        .body = body,
                                        .size = size,
                                        .prepare = prepare,
                                        .context = hook,
                                        .what = what};
    bool ends = config->draining != NULL && config->draining(config->stop_context);
    int64_t ms = hook->failing && hook->retry_ms > AGAIN_MS ? AGAIN_MS : hook->retry_ms;
    ms = ends && ms > DRAIN_MS ? DRAIN_MS : ms;
    hook->deadline_ns = weir_clock_mono_ns() + ms * 1000000;
    int rc = weir_http_call(hook->client, &request, &response, &err);
    bool good = rc == WEIR_OK && response.status >= 200 && response.status < 300;
    hook->failing = !good;
    __atomic_add_fetch(good ? &hook->sent : &hook->failed, 1, __ATOMIC_RELAXED);
    if (!good && rc == WEIR_OK) {
        snprintf(err.message, sizeof(err.message), "HTTP %ld", response.status);
    }
    if (!good) {
        weir_log_warn("sink", "%s was not sent and is given up error=\"%s\"", what, err.message);
    }
}

static int apply(void *self, uint64_t record, const void *effect, size_t size, bool verify,
                 struct weir_error *err) {
    struct webhook *hook = self;
    const struct weir_sink_config *config = &hook->config;
    const char *at = effect;
    const char *end = at + size;
    if (verify && hook->noted != WEIR_SINK_NO_MARKER && record <= hook->noted) {
        return WEIR_OK; /* sent before the process ended */
    }
    hook->record = record;
    hook->number = 0;
    while (at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        line = line != NULL ? line : end;
        if (config->stop != NULL && config->stop(config->stop_context)) { /* sent when it is back */
            return weir_error_set(err, WEIR_E_CLOSED, "%s: the pipeline is going down",
                                  config->name);
        }
        if (hook->url != NULL) {
            hook->number++;
            send_one(hook, at, (size_t)(line - at));
        } else { /* the rules know no address any more */
            __atomic_add_fetch(&hook->failed, 1, __ATOMIC_RELAXED);
        }
        at = line + 1;
    }
    write_note(hook, record);
    return WEIR_OK;
}

static int maintain(void *self, struct weir_error *err) {
    (void)self;
    (void)err;
    return WEIR_OK;
}

static void upkeep(void *self, struct weir_sink_upkeep *out) {
    struct webhook *hook = self;
    out->alerts_sent += __atomic_load_n(&hook->sent, __ATOMIC_RELAXED);
    out->alerts_failed += __atomic_load_n(&hook->failed, __ATOMIC_RELAXED);
}

static const struct weir_option options[] = {
    {.name = "url", .form = WEIR_OPTION_SECRET, .required = true, .example = "env \"TEAMS_URL\""},
    {.name = "token", .form = WEIR_OPTION_SECRET},
    {.name = "ca", .form = WEIR_OPTION_PATH},
    {.name = "retry_for", .form = WEIR_OPTION_DURATION, .example = "\"1m\""},
    {0},
};

const struct weir_sink_ops weir_sink_webhook = {
    .kind = "webhook",
    .options = options,
    .effect_kind = WEIR_SINK_EFFECT_WEBHOOK,
    .create = create,
    .start = start,
    .write = write_rows,
    .evolve = evolve,
    .seal = seal,
    .apply = apply,
    .maintain = maintain,
    .upkeep = upkeep,
    .destroy = destroy,
};
