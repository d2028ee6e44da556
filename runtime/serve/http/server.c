/* libwebsockets' loop on a thread of its own, and what it calls. */
#include "serve/http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/thread.h"
#include "serve/http/request.h"
#include "state/replies.h"

enum { CONNECTIONS = 1000, DESCRIPTORS_MAX = 65536 };

#define TIMEOUT_US INT64_C(30000000)
#define IDLE_US INT64_C(60000000)

/* --- what libwebsockets calls --------------------------------------------------------------- */

static struct weir_http_server *server_of(struct lws *wsi) {
    return lws_context_user(lws_get_context(wsi));
}

static int on_request(struct weir_http_server *server, struct request *r, struct lws *wsi) {
    char *uri;
    int size;
    if (lws_http_get_uri_and_method(wsi, &uri, &size) < 0) {
        return -1;
    }
    return request_begin(server, r, wsi, uri, (size_t)size);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size) {
    struct request *r = user;
    switch ((int)reason) {
    case LWS_CALLBACK_FILTER_NETWORK_CONNECTION: {
        struct weir_http_server *server = server_of(wsi);
        bool full = server->connections >= server->connections_max;
        server->refused_connections += full;
        return full;
    }
    case LWS_CALLBACK_WSI_CREATE:
        server_of(wsi)->connections++;
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        server_of(wsi)->connections--;
        return 0;
    case LWS_CALLBACK_HTTP:
        return on_request(server_of(wsi), r, wsi);
    case LWS_CALLBACK_HTTP_BODY:
        return request_body(server_of(wsi), r, in, size);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        return request_complete(server_of(wsi), r);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return request_write(server_of(wsi), r);
    case LWS_CALLBACK_TIMER:
        return r != NULL ? request_timeout(server_of(wsi), r) : 0;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        request_settle(server_of(wsi));
        return 0;
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
        if (r != NULL) {
            request_end(server_of(wsi), r);
            weir_buffer_fini(&r->answer);
            r->answer.limit = 0;
        }
        return 0;
    default:
        return 0;
    }
}

/* The log's thread. Neighbours of one kind become one: the newest stands for those before it. */
static void settled(void *context, uint32_t group, int code, const char *why) {
    struct server_path *path = context;
    struct weir_http_server *server = path->server;
    (void)why;
    pthread_mutex_lock(&server->lock);
    for (;;) {
        struct settled *last =
            path->settled_count > 0 ? &path->settled[path->settled_count - 1] : NULL;
        if (last != NULL && (last->code == WEIR_OK) == (code == WEIR_OK)) {
            *last = (struct settled){group, code};
            break;
        }
        if (path->settled_count < HTTP_SETTLED_MAX) {
            path->settled[path->settled_count++] = (struct settled){group, code};
            break;
        }
        pthread_cond_wait(&server->taken, &server->lock);
    }
    pthread_mutex_unlock(&server->lock);
    lws_cancel_service(server->context);
}

/* The committer's thread. */
static void replied(void *context) {
    struct weir_http_server *server = context;
    lws_cancel_service(server->context);
}

static void emit(int level, const char *line) {
    static _Atomic int64_t last_ns;
    int64_t now = weir_clock_mono_ns();
    int length = (int)strcspn(line, "\n");
    if ((level & LLL_ERR) != 0 && now - atomic_load(&last_ns) > INT64_C(1000000000)) {
        atomic_store(&last_ns, now); /* senders must not fill the log */
        weir_log_warn("serve", "%.*s", length, line);
    } else {
        weir_log_debug("serve", "%.*s", length, line);
    }
}

static void *run(void *argument) {
    struct weir_http_server *server = argument;
    weir_thread_name("http", -1);
    while (!atomic_load(&server->stopping)) {
        if (lws_service(server->context, 0) < 0) {
            break;
        }
    }
    return NULL;
}

/* --- life --------------------------------------------------------------------------------- */

/* Tells what libwebsockets would not: why one cannot listen there. */
static int try_address(const char *address, int port, struct weir_error *err) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    bool is_six = strchr(address, ':') != NULL;
    if (inet_pton(is_six ? AF_INET6 : AF_INET, address,
                  is_six ? (void *)&six.sin6_addr : (void *)&four.sin_addr) != 1) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "serve.http.address = \"%s\" is no IP address; such as "
                              "\"127.0.0.1\", or \"0.0.0.0\" for all",
                              address);
    }
    int fd = socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    }
    bool good = fd >= 0 && bind(fd, is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
                                is_six ? sizeof(six) : sizeof(four)) == 0;
    int code = errno;
    if (fd >= 0) {
        close(fd);
    }
    return good ? WEIR_OK
                : weir_error_set(err, WEIR_E_ENVIRONMENT,
                                 "cannot listen for HTTP on %s port %d: %s; stop what listens "
                                 "there, or give serve.http another port (0: any that is free)",
                                 address, port, strerror(code));
}

static int try_file(const char *path, const char *option, struct weir_error *err) {
    if (path == NULL || access(path, R_OK) == 0) {
        return WEIR_OK;
    }
    return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "serve.http.tls.%s %s", option, path);
}

static int add_paths(struct weir_http_server *server,
                     const struct weir_http_server_options *options, struct weir_error *err) {
    for (int32_t i = 0; i < options->source_count; i++) {
        const struct weir_http_path *path = weir_source_http_path(options->sources[i]);
        if (path == NULL) {
            continue;
        }
        for (int other = 0; other < server->path_count; other++) {
            if (strcmp(server->paths[other].path->path, path->path) == 0) {
                return weir_error_set(err, WEIR_E_CONFIG,
                                      "%s and %s both take requests at %s; give each its own path",
                                      server->paths[other].path->source, path->source, path->path);
            }
        }
        if (server->path_count == HTTP_PATHS_MAX) {
            return weir_error_set(err, WEIR_E_LIMIT, "more than %d HTTP sources", HTTP_PATHS_MAX);
        }
        server->paths[server->path_count++] =
            (struct server_path){.server = server,
                                 .path = path,
                                 .counts = weir_source_http_counts(options->sources[i]),
                                 .replies = options->replies[i],
                                 .tokens = (double)path->burst,
                                 .filled_ns = weir_clock_mono_ns()};
    }
    return WEIR_OK;
}

static int listen_on(struct weir_http_server *server,
                     const struct weir_http_server_options *options, const char *address,
                     struct weir_error *err) {
    static const struct lws_protocols protocols[] = {
        {.name = "http",
         .callback = callback,
         .per_session_data_size = sizeof(struct request),
         .rx_buffer_size = 65536},
        {0}};
    server->tls = options->certificate != NULL;
    int64_t seconds = server->timeout_us / 1000000;
    struct lws_context_creation_info info = {
        .port = options->port,
        .iface = address,
        .protocols = protocols,
        .user = server,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .max_http_header_pool =
            (unsigned short)(server->connections_max < 65535 ? server->connections_max : 65535),
        .max_http_header_data = HTTP_HEADERS_BYTES,
        .timeout_secs = (unsigned)(seconds > 0 ? seconds : 1),
        .timeout_secs_ah_idle = (unsigned)(seconds > 0 ? seconds : 1),
        .keepalive_timeout = (int)((options->idle_us > 0 ? options->idle_us : IDLE_US) / 1000000),
        .pt_serv_buf_size = 65536,
        .server_string = "",
        .options = LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND |
                   (strchr(address, ':') == NULL ? LWS_SERVER_OPTION_DISABLE_IPV6 : 0),
    };
    if (server->tls) { /* HTTP/1.1 alone: headers of its own are not seen in HTTP/2 */
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
        info.ssl_cert_filepath = options->certificate;
        info.ssl_private_key_filepath = options->key;
        info.alpn = "http/1.1";
        info.ssl_options_set = SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1;
        if (options->client_authority != NULL) {
            info.ssl_ca_filepath = options->client_authority;
            info.options |= LWS_SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT;
        }
    }
    lws_set_log_level(LLL_ERR | LLL_WARN, emit);
    /* It makes tables as long as there may be descriptors, which can be a thousand million. */
    struct rlimit limit;
    bool lowered = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > DESCRIPTORS_MAX;
    if (lowered) {
        struct rlimit low = {DESCRIPTORS_MAX, limit.rlim_max};
        (void)setrlimit(RLIMIT_NOFILE, &low);
    }
    server->context = lws_create_context(&info);
    if (lowered) {
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    server->vhost =
        server->context != NULL ? lws_get_vhost_by_name(server->context, "default") : NULL;
    if (server->vhost == NULL) {
        return weir_error_set(err, WEIR_E_ENVIRONMENT, "cannot listen for HTTP on %s port %d%s",
                              address, options->port,
                              server->tls ? "; do certificate and key belong together?" : "");
    }
    bool six = strchr(address, ':') != NULL;
    snprintf(server->url, sizeof(server->url), "http%s://%s%s%s:%d", server->tls ? "s" : "",
             six ? "[" : "", address, six ? "]" : "", lws_get_vhost_listen_port(server->vhost));
    return WEIR_OK;
}

int weir_http_server_create(struct weir_http_server **out,
                            const struct weir_http_server_options *options,
                            struct weir_error *err) {
    struct weir_http_server *server = calloc(1, sizeof(*server));
    const char *address = options->address != NULL ? options->address : "127.0.0.1";
    *out = NULL;
    if (server == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->taken, NULL);
    http_events_init(&server->events);
    weir_buffer_init(&server->metrics, 32 << 20);
    server->waiting.next = server->waiting.previous = &server->waiting;
    server->timeout_us = options->timeout_us > 0 ? options->timeout_us : TIMEOUT_US;
    server->connections_max = options->connections_max > 0 ? options->connections_max : CONNECTIONS;
    server->pipeline = strdup(options->pipeline != NULL ? options->pipeline : "");
    atomic_store(&server->alive_ns, weir_clock_mono_ns());
    int rc = server->pipeline == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                                      : add_paths(server, options, err);
    rc = rc == WEIR_OK ? try_file(options->certificate, "cert", err) : rc;
    rc = rc == WEIR_OK ? try_file(options->key, "key", err) : rc;
    rc = rc == WEIR_OK ? try_file(options->client_authority, "client_ca", err) : rc;
    rc = rc == WEIR_OK ? try_address(address, options->port, err) : rc;
    rc = rc == WEIR_OK ? listen_on(server, options, address, err) : rc;
    for (int i = 0; rc == WEIR_OK && i < server->path_count; i++) {
        weir_http_log_listen(server->paths[i].path->log, settled, &server->paths[i]);
        if (server->paths[i].replies != NULL) {
            weir_replies_listen(server->paths[i].replies, replied, server);
        }
    }
    if (rc == WEIR_OK) {
        int failed = weir_thread_start(&server->thread, run, server);
        server->running = failed == 0;
        rc = failed == 0
                 ? WEIR_OK
                 : weir_error_system(err, WEIR_E_ENVIRONMENT, failed, "cannot start a thread");
    }
    if (rc != WEIR_OK) {
        weir_http_server_destroy(server);
        return rc;
    }
    weir_log_info("serve", "listening at %s", server->url);
    *out = server;
    return WEIR_OK;
}

void weir_http_server_destroy(struct weir_http_server *server) {
    if (server == NULL) {
        return;
    }
    for (int i = 0; i < server->path_count; i++) {
        weir_http_log_listen(server->paths[i].path->log, NULL, NULL);
        if (server->paths[i].replies != NULL) {
            weir_replies_listen(server->paths[i].replies, NULL, NULL);
        }
    }
    if (server->running) {
        atomic_store(&server->stopping, true);
        lws_cancel_service(server->context);
        pthread_join(server->thread, NULL);
    }
    if (server->context != NULL) {
        lws_context_destroy(server->context);
    }
    http_events_fini(&server->events);
    weir_buffer_fini(&server->metrics);
    pthread_cond_destroy(&server->taken);
    pthread_mutex_destroy(&server->lock);
    free(server->pipeline);
    free(server);
}

const char *weir_http_server_url(const struct weir_http_server *server) {
    return server->url;
}

void weir_http_server_publish(struct weir_http_server *server, const char *text, size_t size) {
    pthread_mutex_lock(&server->lock);
    weir_buffer_clear(&server->metrics);
    if (weir_buffer_append(&server->metrics, text, size) != WEIR_OK) {
        weir_buffer_clear(&server->metrics);
    }
    pthread_mutex_unlock(&server->lock);
    atomic_store(&server->alive_ns, weir_clock_mono_ns());
}
