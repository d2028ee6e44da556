#include "core/http_many.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/clock.h"
#include "core/http.h"
#include "core/thread.h"

enum { LONGEST_BACKOFF_MS = 20000, LOOK_MS = 100 };

struct ask {
    struct ask *next;
    uint64_t id;
    char *url;
    char *body; /* NULL: GET */
    size_t size;
    int32_t attempts;
    int64_t not_before_ns;
    CURL *handle; /* under way */
    struct weir_buffer out;
};

struct weir_http_many {
    struct weir_http_many_options options;
    struct curl_slist *headers; /* of a GET */
    struct curl_slist *posted;  /* of a POST */
    char *authority;
    CURLM *multi;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what follows up to the thread's own */
    struct ask *fresh;    /* newest first */
    struct weir_http_many_answer *first;
    struct weir_http_many_answer *last;
    struct weir_http_many_figures figures;
    /* the thread's own */
    struct ask *queue; /* oldest first */
    struct ask **queue_end;
    struct ask *active;
    int32_t active_count;
    double tokens; /* requests the rate allows now */
    int64_t filled_ns;
    int32_t failures; /* in a row */
    int64_t open_until_ns;
    bool probing;
};

static void ask_free(struct ask *ask) {
    if (ask != NULL) {
        free(ask->url);
        free(ask->body);
        weir_buffer_fini(&ask->out);
        free(ask);
    }
}

static void asks_free(struct ask *list) {
    while (list != NULL) {
        struct ask *next = list->next;
        ask_free(list);
        list = next;
    }
}

/* --- answers ------------------------------------------------------------------------------ */

/* The ask is over: its answer waits, or there is no memory for one, and then it is tried again. */
static bool finish(struct weir_http_many *m, struct ask *ask, long status, const char *error) {
    size_t size = error == NULL ? ask->out.size : 0;
    struct weir_http_many_answer *answer = calloc(1, sizeof(*answer) + size + 1);
    if (answer == NULL) {
        return false;
    }
    answer->id = ask->id;
    answer->status = status;
    answer->size = size;
    if (size > 0) {
        memcpy(answer->body, ask->out.data, size);
    }
    snprintf(answer->error, sizeof(answer->error), "%s", error != NULL ? error : "");
    pthread_mutex_lock(&m->lock);
    if (m->last != NULL) {
        m->last->next = answer;
    } else {
        m->first = answer;
    }
    m->last = answer;
    m->figures.asked++;
    m->figures.failed += error != NULL;
    pthread_mutex_unlock(&m->lock);
    ask_free(ask);
    if (m->options.signal != NULL) {
        weir_signal_raise(m->options.signal);
    }
    return true;
}

static void put_back(struct weir_http_many *m, struct ask *ask, int64_t wait_ms) {
    ask->not_before_ns = weir_clock_mono_ns() + wait_ms * 1000000;
    ask->next = NULL;
    *m->queue_end = ask;
    m->queue_end = &ask->next;
}

/* --- the breaker -------------------------------------------------------------------------- */

static bool refuses(struct weir_http_many *m) {
    return m->open_until_ns != 0 && (m->probing || weir_clock_mono_ns() < m->open_until_ns);
}

static void tell_breaker(struct weir_http_many *m, bool good) {
    m->failures = good ? 0 : m->failures + 1;
    m->probing = false;
    if (good) {
        m->open_until_ns = 0;
    } else if (m->options.breaker > 0 && m->failures >= m->options.breaker) {
        m->open_until_ns = weir_clock_mono_ns() + m->options.pause_ms * 1000000;
    }
    pthread_mutex_lock(&m->lock);
    m->figures.open = m->open_until_ns != 0;
    pthread_mutex_unlock(&m->lock);
}

/* --- requests ----------------------------------------------------------------------------- */

static size_t on_body(char *bytes, size_t size, size_t count, void *user) {
    struct ask *ask = user;
    return weir_buffer_append(&ask->out, bytes, size * count) == WEIR_OK ? size * count : 0;
}

static bool may_pass(CURLcode code, long status) {
    if (code != CURLE_OK) {
        return code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL &&
               code != CURLE_WRITE_ERROR && code != CURLE_PEER_FAILED_VERIFICATION;
    }
    return status == 408 || status == 429 || status >= 500;
}

static int64_t backoff_ms(const struct weir_http_many *m, const struct ask *ask) {
    curl_off_t said = 0;
    int64_t wait = m->options.backoff_ms;
    for (int32_t i = 1; i < ask->attempts && wait < LONGEST_BACKOFF_MS; i++) {
        wait *= 2;
    }
    curl_easy_getinfo(ask->handle, CURLINFO_RETRY_AFTER, &said);
    wait = (int64_t)said * 1000 > wait ? (int64_t)said * 1000 : wait;
    return wait > LONGEST_BACKOFF_MS ? LONGEST_BACKOFF_MS : wait;
}

static void done(struct weir_http_many *m, struct ask *ask, CURLcode code) {
    long status = 0;
    char error[200] = "";
    curl_easy_getinfo(ask->handle, CURLINFO_RESPONSE_CODE, &status);
    bool passing = may_pass(code, status);
    bool again = passing && ask->attempts < m->options.attempts;
    int64_t wait_ms = again ? backoff_ms(m, ask) : 0;
    if (code != CURLE_OK) {
        snprintf(error, sizeof(error), "%s", curl_easy_strerror(code));
    } else if ((status < 200 || status >= 300) && status != 404) {
        snprintf(error, sizeof(error), "HTTP %ld", status);
    }
    for (struct ask **link = &m->active; *link != NULL; link = &(*link)->next) {
        if (*link == ask) {
            *link = ask->next;
            break;
        }
    }
    m->active_count--;
    curl_multi_remove_handle(m->multi, ask->handle);
    curl_easy_cleanup(ask->handle);
    ask->handle = NULL;
    if (again) {
        pthread_mutex_lock(&m->lock);
        m->figures.retries++;
        pthread_mutex_unlock(&m->lock);
        put_back(m, ask, wait_ms);
        return;
    }
    tell_breaker(m, !passing); /* a refusal is an answer: the service is there */
    if (!finish(m, ask, status, error[0] != '\0' ? error : NULL)) {
        put_back(m, ask, LOOK_MS);
    }
}

static bool begin(struct weir_http_many *m, struct ask *ask) {
    CURL *handle = ask->handle = curl_easy_init();
    if (handle == NULL) {
        return false;
    }
    weir_buffer_clear(&ask->out);
    curl_easy_setopt(handle, CURLOPT_URL, ask->url);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long)m->options.timeout_ms);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, ask->body != NULL ? m->posted : m->headers);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, ask);
    curl_easy_setopt(handle, CURLOPT_PRIVATE, ask);
    if (m->authority != NULL) {
        curl_easy_setopt(handle, CURLOPT_CAINFO, m->authority);
    }
    if (ask->body != NULL) {
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, (long)ask->size);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, ask->body);
    }
    if (curl_multi_add_handle(m->multi, handle) != CURLM_OK) {
        curl_easy_cleanup(handle);
        ask->handle = NULL;
        return false;
    }
    ask->attempts++;
    ask->next = m->active;
    m->active = ask;
    m->active_count++;
    return true;
}

static void fill_tokens(struct weir_http_many *m) {
    int64_t now = weir_clock_mono_ns();
    double most = m->options.rate < 1 ? 1 : m->options.rate;
    m->tokens += (double)(now - m->filled_ns) / 1e9 * m->options.rate;
    m->tokens = m->tokens > most ? most : m->tokens;
    m->filled_ns = now;
}

/* Those asked since, to the queue's end in the order they were asked. */
static void take_fresh(struct weir_http_many *m) {
    pthread_mutex_lock(&m->lock);
    struct ask *fresh = m->fresh;
    m->fresh = NULL;
    m->figures.in_flight = m->active_count;
    pthread_mutex_unlock(&m->lock);
    struct ask *ordered = NULL;
    while (fresh != NULL) {
        struct ask *next = fresh->next;
        fresh->next = ordered;
        ordered = fresh;
        fresh = next;
    }
    if (ordered != NULL) {
        *m->queue_end = ordered;
        while (ordered->next != NULL) {
            ordered = ordered->next;
        }
        m->queue_end = &ordered->next;
    }
}

/* Begins what may begin; fails at once what the breaker refuses. */
static void begin_some(struct weir_http_many *m) {
    int64_t now = weir_clock_mono_ns();
    fill_tokens(m);
    for (struct ask **link = &m->queue; *link != NULL;) {
        struct ask *ask = *link;
        bool refused = refuses(m);
        bool room = m->active_count < m->options.in_flight &&
                    (m->options.rate <= 0 || m->tokens >= 1) && ask->not_before_ns <= now;
        if (!refused && !room) {
            link = &ask->next;
            continue;
        }
        *link = ask->next;
        if (m->queue_end == &ask->next) {
            m->queue_end = link;
        }
        if (refused) {
            if (!finish(m, ask, 0, "the circuit is open after failures in a row")) {
                put_back(m, ask, LOOK_MS);
                return;
            }
            continue;
        }
        m->tokens -= 1;
        m->probing = m->open_until_ns != 0;
        if (!begin(m, ask)) {
            put_back(m, ask, LOOK_MS);
            return;
        }
    }
}

static void *run(void *argument) {
    struct weir_http_many *m = argument;
    weir_thread_name("http-ask", -1);
    while (!atomic_load(&m->stop)) {
        int still;
        int left;
        take_fresh(m);
        begin_some(m);
        curl_multi_perform(m->multi, &still);
        CURLMsg *message;
        while ((message = curl_multi_info_read(m->multi, &left)) != NULL) {
            struct ask *ask = NULL;
            if (message->msg == CURLMSG_DONE) {
                curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&ask);
                done(m, ask, message->data.result);
            }
        }
        /* What waits for a time looks again soon; what is asked wakes. */
        curl_multi_poll(m->multi, NULL, 0, m->queue != NULL ? 5 : LOOK_MS, NULL);
    }
    return NULL;
}

/* --- life --------------------------------------------------------------------------------- */

static int add_headers(struct weir_http_many *m) {
    struct curl_slist **lists[] = {&m->headers, &m->posted};
    for (int k = 0; k < 2; k++) {
        struct curl_slist *grown = curl_slist_append(NULL, "Accept: application/json");
        *lists[k] = grown;
        for (const char *const *h = m->options.headers; grown != NULL && h != NULL && *h; h++) {
            grown = curl_slist_append(*lists[k], *h);
            *lists[k] = grown != NULL ? grown : *lists[k];
        }
        if (grown == NULL) {
            return WEIR_E_NOMEM;
        }
    }
    struct curl_slist *posted = curl_slist_append(m->posted, "Content-Type: application/json");
    m->posted = posted != NULL ? posted : m->posted;
    return posted != NULL ? WEIR_OK : WEIR_E_NOMEM;
}

int weir_http_many_create(const struct weir_http_many_options *options, struct weir_http_many **out,
                          struct weir_error *err) {
    weir_http_set_up();
    struct weir_http_many *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "http: out of memory");
    }
    m->options = *options;
    m->queue_end = &m->queue;
    m->filled_ns = weir_clock_mono_ns();
    m->tokens = 1;
    pthread_mutex_init(&m->lock, NULL);
    m->multi = curl_multi_init();
    m->authority = options->authority != NULL ? strdup(options->authority) : NULL;
    if (m->multi == NULL || (options->authority != NULL && m->authority == NULL) ||
        add_headers(m) != WEIR_OK) {
        weir_http_many_destroy(m);
        return weir_error_set(err, WEIR_E_NOMEM, "http: out of memory");
    }
    m->options.headers = NULL;
    m->options.authority = NULL;
    int failed = weir_thread_start(&m->thread, run, m);
    if (failed != 0) {
        weir_http_many_destroy(m);
        return weir_error_system(err, WEIR_E_ENVIRONMENT, failed, "cannot start a thread");
    }
    m->running = true;
    *out = m;
    return WEIR_OK;
}

void weir_http_many_destroy(struct weir_http_many *m) {
    if (m == NULL) {
        return;
    }
    atomic_store(&m->stop, true);
    if (m->running) {
        curl_multi_wakeup(m->multi);
        pthread_join(m->thread, NULL);
    }
    for (struct ask *ask = m->active; ask != NULL; ask = ask->next) {
        curl_multi_remove_handle(m->multi, ask->handle);
        curl_easy_cleanup(ask->handle);
    }
    asks_free(m->active);
    asks_free(m->queue);
    asks_free(m->fresh);
    while (m->first != NULL) {
        struct weir_http_many_answer *next = m->first->next;
        free(m->first);
        m->first = next;
    }
    curl_multi_cleanup(m->multi);
    curl_slist_free_all(m->headers);
    curl_slist_free_all(m->posted);
    pthread_mutex_destroy(&m->lock);
    free(m->authority);
    free(m);
}

int weir_http_many_ask(struct weir_http_many *m, uint64_t id, const char *url, const char *body,
                       size_t size) {
    struct ask *ask = calloc(1, sizeof(*ask));
    if (ask == NULL) {
        return WEIR_E_NOMEM;
    }
    weir_buffer_init(&ask->out, m->options.answer_bytes_max);
    ask->id = id;
    ask->size = size;
    ask->url = strdup(url);
    ask->body = body != NULL ? malloc(size + 1) : NULL;
    if (ask->url == NULL || (body != NULL && ask->body == NULL)) {
        ask_free(ask);
        return WEIR_E_NOMEM;
    }
    if (body != NULL) {
        memcpy(ask->body, body, size);
    }
    pthread_mutex_lock(&m->lock);
    ask->next = m->fresh;
    m->fresh = ask;
    pthread_mutex_unlock(&m->lock);
    curl_multi_wakeup(m->multi);
    return WEIR_OK;
}

struct weir_http_many_answer *weir_http_many_take(struct weir_http_many *m) {
    pthread_mutex_lock(&m->lock);
    struct weir_http_many_answer *first = m->first;
    m->first = m->last = NULL;
    pthread_mutex_unlock(&m->lock);
    return first;
}

void weir_http_many_figures(struct weir_http_many *m, struct weir_http_many_figures *out) {
    pthread_mutex_lock(&m->lock);
    *out = m->figures;
    pthread_mutex_unlock(&m->lock);
}
