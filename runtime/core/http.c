#include "core/http.h"

#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"

enum {
    IDLE_HANDLES = 16,
    FIRST_WAIT_MS = 250,
    LONGEST_WAIT_MS = 20000,
    CONNECT_TIMEOUT_MS = 10000,
    STOP_LOOK_MS = 100,
    ERROR_BODY_BYTES = 64 * 1024,
};

struct weir_http_client {
    struct weir_http_options options;
    char *ca_file;
    pthread_mutex_t lock;
    CURL *idle[IDLE_HANDLES];
    int32_t idle_count;
    uint64_t random; /* under lock */
    _Atomic uint64_t retries;
};

/* One attempt's view of the answer. */
struct attempt {
    struct weir_http_client *client;
    const struct weir_http_request *request;
    struct weir_http_response *response;
    struct weir_buffer failure; /* the body of an answer that is no success */
    size_t sent;
    size_t out_start;
    int64_t retry_after_ms;
    int rc;                       /* of the write callback */
    char detail[CURL_ERROR_SIZE]; /* what the library says of a failure: host, port, certificate */
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_start(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void weir_http_set_up(void) {
    pthread_once(&curl_once, curl_start);
}

int weir_http_client_create(const struct weir_http_options *options, struct weir_http_client **out,
                            struct weir_error *err) {
    weir_http_set_up();
    struct weir_http_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "http client: out of memory");
    }
    client->options = *options;
    if (client->options.retry_for_ms == 0) {
        client->options.retry_for_ms = 600000;
    }
    if (client->options.attempt_timeout_ms == 0) {
        client->options.attempt_timeout_ms = 30000;
    }
    if (options->ca_file != NULL) {
        client->ca_file = strdup(options->ca_file);
        if (client->ca_file == NULL) {
            free(client);
            return weir_error_set(err, WEIR_E_NOMEM, "http client: out of memory");
        }
    }
    pthread_mutex_init(&client->lock, NULL);
    client->random = (uint64_t)weir_clock_mono_ns() ^ (uintptr_t)client;
    *out = client;
    return WEIR_OK;
}

void weir_http_client_destroy(struct weir_http_client *client) {
    if (client == NULL) {
        return;
    }
    for (int32_t i = 0; i < client->idle_count; i++) {
        curl_easy_cleanup(client->idle[i]);
    }
    pthread_mutex_destroy(&client->lock);
    free(client->ca_file);
    free(client);
}

void weir_http_client_set_stop(struct weir_http_client *client, bool (*stop)(void *context),
                               void *context) {
    client->options.stop = stop;
    client->options.stop_context = context;
}

uint64_t weir_http_client_retries(const struct weir_http_client *client) {
    return atomic_load_explicit(&client->retries, memory_order_relaxed);
}

static bool stopping(const struct weir_http_client *client) {
    return client->options.stop != NULL && client->options.stop(client->options.stop_context);
}

static CURL *take_handle(struct weir_http_client *client) {
    pthread_mutex_lock(&client->lock);
    CURL *handle = client->idle_count > 0 ? client->idle[--client->idle_count] : NULL;
    pthread_mutex_unlock(&client->lock);
    return handle != NULL ? handle : curl_easy_init();
}

static void give_handle(struct weir_http_client *client, CURL *handle) {
    curl_easy_reset(handle); /* keeps its connections */
    pthread_mutex_lock(&client->lock);
    bool kept = client->idle_count < IDLE_HANDLES;
    if (kept) {
        client->idle[client->idle_count++] = handle;
    }
    pthread_mutex_unlock(&client->lock);
    if (!kept) {
        curl_easy_cleanup(handle);
    }
}

/* --- what curl calls ---------------------------------------------------------------------- */

static size_t on_body(char *bytes, size_t size, size_t count, void *user) {
    struct attempt *a = user;
    size_t length = size * count;
    if (a->response->status >= 200 && a->response->status < 300) {
        if (a->request->out != NULL) {
            a->rc = weir_buffer_append(a->request->out, bytes, length);
            return a->rc == WEIR_OK ? length : 0;
        }
        return length;
    }
    size_t room = ERROR_BODY_BYTES - a->failure.size;
    if (weir_buffer_append(&a->failure, bytes, length < room ? length : room) != WEIR_OK) {
        return 0;
    }
    return length;
}

static void copy_value(char *out, size_t size, const char *value, size_t length) {
    while (length > 0 && isspace((unsigned char)*value)) {
        value++;
        length--;
    }
    while (length > 0 && isspace((unsigned char)value[length - 1])) {
        length--;
    }
    snprintf(out, size, "%.*s", (int)length, value);
}

static size_t on_header(char *bytes, size_t size, size_t count, void *user) {
    struct attempt *a = user;
    struct weir_http_response *response = a->response;
    size_t length = size * count;
    if (length > 9 && strncmp(bytes, "HTTP/", 5) == 0) { /* a new answer: after 100 too */
        const char *space = memchr(bytes, ' ', length);
        response->status = space != NULL ? strtol(space, NULL, 10) : 0;
        return length;
    }
    const char *colon = memchr(bytes, ':', length);
    if (colon == NULL) {
        return length;
    }
    size_t name = (size_t)(colon - bytes);
    char value[256];
    copy_value(value, sizeof(value), colon + 1, length - name - 1);
    if (name == 14 && strncasecmp(bytes, "content-length", name) == 0) {
        response->length = strtoll(value, NULL, 10);
    } else if (name == 4 && strncasecmp(bytes, "etag", name) == 0) {
        copy_value(response->etag, sizeof(response->etag), value, strlen(value));
    } else if (name == 13 && strncasecmp(bytes, "last-modified", name) == 0) {
        response->modified_ms = (int64_t)curl_getdate(value, NULL) * 1000;
    } else if (name == 15 && strncasecmp(bytes, "x-ms-error-code", name) == 0) {
        copy_value(response->error_code, sizeof(response->error_code), value, strlen(value));
    } else if (name == 11 && strncasecmp(bytes, "retry-after", name) == 0) {
        a->retry_after_ms = strtoll(value, NULL, 10) * 1000; /* dates are not used by these */
    }
    return length;
}

static size_t on_upload(char *out, size_t size, size_t count, void *user) {
    struct attempt *a = user;
    size_t left = a->request->size - a->sent;
    size_t take = size * count < left ? size * count : left;
    memcpy(out, (const char *)a->request->body + a->sent, take);
    a->sent += take;
    return take;
}

static int on_seek(void *user, curl_off_t offset, int origin) {
    struct attempt *a = user;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > a->request->size) {
        return CURL_SEEKFUNC_FAIL;
    }
    a->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return stopping(user) ? 1 : 0;
}

/* --- one attempt -------------------------------------------------------------------------- */

/* The text between <tag> and </tag> of the services' XML errors. */
static void take_tag(const char *body, const char *tag, char *out, size_t size) {
    char open[32];
    snprintf(open, sizeof(open), "<%s>", tag);
    const char *from = strstr(body, open);
    if (from != NULL) {
        from += strlen(open);
        const char *to = strchr(from, '<');
        if (to != NULL) {
            copy_value(out, size, from, (size_t)(to - from));
        }
    }
}

static void read_failure(struct attempt *a) {
    const char *body = weir_buffer_text(&a->failure);
    if (body == NULL) {
        return;
    }
    if (a->response->error_code[0] == '\0') {
        take_tag(body, "Code", a->response->error_code, sizeof(a->response->error_code));
    }
    take_tag(body, "Message", a->response->message, sizeof(a->response->message));
    if (a->response->message[0] == '\0' && body[0] != '<') {
        copy_value(a->response->message, sizeof(a->response->message), body,
                   a->failure.size < 200 ? a->failure.size : 200);
    }
    for (char *p = a->response->message; *p != '\0'; p++) {
        if ((unsigned char)*p < ' ') {
            *p = ' ';
        }
    }
}

static void set_method(CURL *handle, struct attempt *a) {
    const struct weir_http_request *request = a->request;
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    } else if (strcmp(request->method, "PUT") == 0) {
        curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(handle, CURLOPT_READFUNCTION, on_upload);
        curl_easy_setopt(handle, CURLOPT_READDATA, a);
        curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(handle, CURLOPT_SEEKDATA, a);
        curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->size);
    } else if (strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(handle, CURLOPT_POST, 1L);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request->size > 0 ? request->body : "");
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->size);
    } else if (strcmp(request->method, "GET") != 0) {
        curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

static CURLcode perform(struct attempt *a, const char *url, struct curl_slist *headers) {
    struct weir_http_client *client = a->client;
    CURL *handle = take_handle(client);
    if (handle == NULL) {
        return CURLE_OUT_OF_MEMORY;
    }
    long quiet_s = (long)((client->options.attempt_timeout_ms + 999) / 1000);
    a->detail[0] = '\0';
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, a->detail);
    curl_easy_setopt(handle, CURLOPT_URL, url);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, quiet_s > 0 ? quiet_s : 1L);
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, 1024L * 1024);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, a);
    curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(handle, CURLOPT_XFERINFODATA, client);
    if (client->ca_file != NULL) {
        curl_easy_setopt(handle, CURLOPT_CAINFO, client->ca_file);
    }
    set_method(handle, a);
    CURLcode code = curl_easy_perform(handle);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, NULL);
    give_handle(client, handle);
    return code;
}

static bool passing_status(long status) {
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504;
}

static bool passing_failure(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_WEIRD_SERVER_REPLY:
        return true;
    default:
        return false;
    }
}

/* --- trying again ------------------------------------------------------------------------- */

static int64_t wait_ms(struct weir_http_client *client, int32_t attempts, int64_t told_ms) {
    int64_t wait = FIRST_WAIT_MS;
    for (int32_t i = 1; i < attempts && wait < LONGEST_WAIT_MS; i++) {
        wait *= 2;
    }
    wait = wait < LONGEST_WAIT_MS ? wait : LONGEST_WAIT_MS;
    pthread_mutex_lock(&client->lock);
    client->random = client->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t draw = client->random >> 33;
    pthread_mutex_unlock(&client->lock);
    wait = wait / 2 + (int64_t)(draw % (uint64_t)(wait / 2 + 1)); /* half fixed, half by lot */
    return told_ms > wait ? told_ms : wait;
}

static bool sleep_unless_stopped(struct weir_http_client *client, int64_t ms) {
    int64_t end = weir_clock_mono_ns() + ms * 1000000;
    while (!stopping(client)) {
        int64_t left = end - weir_clock_mono_ns();
        if (left <= 0) {
            return true;
        }
        int64_t step =
            left < STOP_LOOK_MS * INT64_C(1000000) ? left : STOP_LOOK_MS * INT64_C(1000000);
        struct timespec t = {0, (long)step};
        nanosleep(&t, NULL);
    }
    return false;
}

static void begin_attempt(struct attempt *a) {
    int32_t attempts = a->response->attempts;
    *a->response = (struct weir_http_response){.length = -1, .attempts = attempts + 1};
    a->sent = 0;
    a->rc = WEIR_OK;
    a->retry_after_ms = 0;
    if (a->request->out != NULL) {
        a->request->out->size = a->out_start;
    }
    weir_buffer_clear(&a->failure);
}

static int attempt_once(struct attempt *a, CURLcode *code, struct weir_error *err) {
    struct weir_buffer url;
    weir_buffer_init(&url, 64 * 1024);
    struct curl_slist *headers = NULL;
    int rc = a->request->prepare(a->request->context, &url, &headers, err);
    const char *text = rc == WEIR_OK ? weir_buffer_text(&url) : NULL;
    if (rc == WEIR_OK && text == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", a->request->what);
    }
    if (rc == WEIR_OK) {
        *code = perform(a, text, headers);
        read_failure(a);
    }
    curl_slist_free_all(headers);
    weir_buffer_fini(&url);
    return rc;
}

static int gave_up(const struct attempt *a, CURLcode code, struct weir_error *err) {
    const struct weir_http_response *r = a->response;
    if (code != CURLE_OK) {
        return weir_error_set(err, WEIR_E_UNAVAILABLE, "%s: %s%s%s (%d attempts)", a->request->what,
                              curl_easy_strerror(code), a->detail[0] != '\0' ? ": " : "", a->detail,
                              (int)r->attempts);
    }
    return weir_error_set(err, WEIR_E_UNAVAILABLE, "%s: HTTP %ld %s %s (%d attempts)",
                          a->request->what, r->status, r->error_code, r->message, (int)r->attempts);
}

static int call(struct attempt *a, struct weir_error *err) {
    struct weir_http_client *client = a->client;
    int64_t deadline = weir_clock_mono_ns() + client->options.retry_for_ms * 1000000;
    for (;;) {
        begin_attempt(a);
        CURLcode code = CURLE_OK;
        int rc = attempt_once(a, &code, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (a->rc != WEIR_OK) {
            return weir_error_set(err, a->rc, "%s: the answer is larger than its reader takes",
                                  a->request->what);
        }
        if (code == CURLE_ABORTED_BY_CALLBACK) {
            return weir_error_set(err, WEIR_E_CLOSED, "%s: stopping", a->request->what);
        }
        bool again = code != CURLE_OK
                         ? passing_failure(code)
                         : passing_status(a->response->status) ||
                               (a->request->passing != NULL &&
                                a->request->passing(a->response->status, a->response->error_code));
        if (!again) {
            return code == CURLE_OK ? WEIR_OK
                                    : weir_error_set(err, WEIR_E_IO, "%s: %s%s%s", a->request->what,
                                                     curl_easy_strerror(code),
                                                     a->detail[0] != '\0' ? ": " : "", a->detail);
        }
        int64_t wait = wait_ms(client, a->response->attempts, a->retry_after_ms);
        if (weir_clock_mono_ns() + wait * 1000000 > deadline) {
            return gave_up(a, code, err);
        }
        atomic_fetch_add_explicit(&client->retries, 1, memory_order_relaxed);
        if (!sleep_unless_stopped(client, wait)) {
            return weir_error_set(err, WEIR_E_CLOSED, "%s: stopping", a->request->what);
        }
    }
}

int weir_http_call(struct weir_http_client *client, const struct weir_http_request *request,
                   struct weir_http_response *response, struct weir_error *err) {
    struct attempt a = {.client = client, .request = request, .response = response};
    *response = (struct weir_http_response){0};
    a.out_start = request->out != NULL ? request->out->size : 0;
    weir_buffer_init(&a.failure, ERROR_BODY_BYTES + 1);
    int rc = call(&a, err);
    weir_buffer_fini(&a.failure);
    return rc;
}

int weir_http_encode(struct weir_buffer *out, const char *text, bool path) {
    static const char hex[] = "0123456789ABCDEF";
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || (path && c == '/');
        char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
        int rc = plain ? weir_buffer_append(out, p, 1) : weir_buffer_append(out, escaped, 3);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}
