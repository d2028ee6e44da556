/* A storm of requests: N events, one a POST, over C connections kept alive, each sent again with
 * its idempotency key until it is answered with 2xx, over new connections where they break.
 *   http_storm PORT PATH EVENTS CONNECTIONS [seconds to go on trying] [nokeys]
 * Prints one JSON object; with "nokeys" events are sent once, and the ids acknowledged follow, one
 * a line. Exit 1 when not all were answered with 2xx in time (but for nokeys). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"

enum { CONNECTIONS_MAX = 2000, RETRY_MS = 20, BODY_PADDING = 120 };

struct connection {
    int fd;
    int event; /* id under way; -1: none */
    bool connected;
    int64_t sent_ns;
    int64_t again_ns; /* when to connect next */
    char out[1024];
    size_t out_size;
    size_t out_at;
    char in[2048];
    size_t in_size;
};

static struct connection connections[CONNECTIONS_MAX];
static struct sockaddr_in address;
static const char *path;
static int events;
static bool keys = true;
static int *waiting; /* ids to send: a stack */
static int waiting_count;
static bool *acknowledged;
static int64_t *latency_ns;
static int acknowledged_count;
static int resent;
static int given_up;
static int codes[600];
static int poll_fd;

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void watch(struct connection *c, bool writes) {
    struct epoll_event event = {.events = EPOLLIN | (writes ? EPOLLOUT : 0u), .data.ptr = c};
    (void)epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static void drop(struct connection *c) {
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    if (c->event >= 0) {
        if (keys) {
            waiting[waiting_count++] = c->event;
            resent++;
        } else {
            given_up++;
        }
        c->event = -1;
    }
    c->connected = false;
    c->again_ns = weir_clock_mono_ns() + RETRY_MS * INT64_C(1000000);
}

static void open_connection(struct connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (c->fd < 0) {
        perror("socket");
        exit(2);
    }
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->in_size = 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    (void)epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS) {
        drop(c);
    }
}

static void flush(struct connection *c) {
    while (c->out_at < c->out_size) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_size - c->out_at, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                watch(c, true);
                return;
            }
            drop(c);
            return;
        }
        c->out_at += (size_t)n;
    }
    watch(c, false);
}

static void send_next(struct connection *c) {
    if (waiting_count == 0) {
        watch(c, false);
        return;
    }
    char body[256];
    char key[64] = "";
    c->event = waiting[--waiting_count];
    int size = snprintf(body, sizeof(body), "{\"id\":%d,\"name\":\"%0*d\"}", c->event, BODY_PADDING,
                        c->event);
    if (keys) {
        snprintf(key, sizeof(key), "Idempotency-Key: storm-%d\r\n", c->event);
    }
    c->out_size =
        (size_t)snprintf(c->out, sizeof(c->out),
                         "POST %s HTTP/1.1\r\nHost: storm\r\n"
                         "Content-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
                         path, key, size, body);
    c->out_at = 0;
    c->sent_ns = weir_clock_mono_ns();
    flush(c);
}

static void take_answer(struct connection *c, int code) {
    codes[code >= 0 && code < 600 ? code : 599]++;
    int event = c->event;
    c->event = -1;
    if (code >= 200 && code < 300) {
        if (!acknowledged[event]) {
            acknowledged[event] = true;
            latency_ns[acknowledged_count++] = weir_clock_mono_ns() - c->sent_ns;
        }
    } else if (keys) {
        waiting[waiting_count++] = event;
        resent++;
    } else {
        given_up++;
    }
}

/* An answer is whole when its head and as much body as it says are there. */
static void receive(struct connection *c) {
    ssize_t n = recv(c->fd, c->in + c->in_size, sizeof(c->in) - 1 - c->in_size, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) {
            drop(c);
        }
        return;
    }
    c->in_size += (size_t)n;
    c->in[c->in_size] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    const char *length = strcasestr(c->in, "content-length:");
    if (end == NULL || length == NULL) {
        return;
    }
    size_t whole = (size_t)(end + 4 - c->in) + (size_t)strtol(length + 15, NULL, 10);
    if (c->in_size < whole) {
        return;
    }
    bool close_it = strcasestr(c->in, "connection: close") != NULL;
    int code = (int)strtol(c->in + 9, NULL, 10);
    c->in_size = 0;
    if (c->event >= 0) {
        take_answer(c, code);
    }
    if (close_it) {
        drop(c);
    } else {
        send_next(c);
    }
}

static void on_event(struct connection *c, uint32_t what) {
    if (c->fd < 0) {
        return;
    }
    if ((what & (EPOLLERR | EPOLLHUP)) != 0 && (what & EPOLLIN) == 0) {
        drop(c);
        return;
    }
    if ((what & EPOLLOUT) != 0 && !c->connected) {
        c->connected = true;
        send_next(c);
    } else if ((what & EPOLLOUT) != 0) {
        flush(c);
    }
    if (c->fd >= 0 && (what & EPOLLIN) != 0) {
        receive(c);
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: http_storm PORT PATH EVENTS CONNECTIONS [SECONDS] [nokeys]\n");
        return 2;
    }
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)strtol(argv[1], NULL, 10)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    path = argv[2];
    events = (int)strtol(argv[3], NULL, 10);
    int count = (int)strtol(argv[4], NULL, 10) < CONNECTIONS_MAX ? (int)strtol(argv[4], NULL, 10)
                                                                 : CONNECTIONS_MAX;
    double seconds = argc > 5 ? strtod(argv[5], NULL) : 60;
    keys = argc <= 6 || strcmp(argv[6], "nokeys") != 0;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    waiting = calloc((size_t)events + CONNECTIONS_MAX, sizeof(*waiting));
    acknowledged = calloc((size_t)events + 1, sizeof(*acknowledged));
    latency_ns = calloc((size_t)events + 1, sizeof(*latency_ns));
    if (poll_fd < 0 || waiting == NULL || acknowledged == NULL || latency_ns == NULL) {
        return 2;
    }
    for (int i = 0; i < events; i++) {
        waiting[waiting_count++] = events - 1 - i;
    }
    int64_t start = weir_clock_mono_ns();
    for (int i = 0; i < count; i++) {
        connections[i].fd = -1;
        connections[i].event = -1;
        open_connection(&connections[i]);
    }
    while (acknowledged_count + given_up < events &&
           (double)(weir_clock_mono_ns() - start) / 1e9 < seconds) {
        struct epoll_event ready[256];
        int n = epoll_wait(poll_fd, ready, 256, 10);
        for (int i = 0; i < n; i++) {
            on_event(ready[i].data.ptr, ready[i].events);
        }
        int64_t now = weir_clock_mono_ns();
        for (int i = 0; i < count; i++) {
            if (connections[i].fd < 0 && connections[i].again_ns <= now) {
                open_connection(&connections[i]);
            } else if (connections[i].connected && connections[i].event < 0 && waiting_count > 0) {
                send_next(&connections[i]);
            }
        }
    }
    double took = (double)(weir_clock_mono_ns() - start) / 1e9;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    qsort(latency_ns, (size_t)acknowledged_count, sizeof(*latency_ns), by_value);
    int64_t p50 = acknowledged_count > 0 ? latency_ns[acknowledged_count / 2] : 0;
    int64_t p99 = acknowledged_count > 0 ? latency_ns[acknowledged_count * 99 / 100] : 0;
    int64_t most = acknowledged_count > 0 ? latency_ns[acknowledged_count - 1] : 0;
    printf("{\"seconds\":%.3f,\"acknowledged\":%d,\"resent\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"max_ms\":%.3f,\"client_cpu_s\":%.3f,\"codes\":{",
           took, acknowledged_count, resent, (double)p50 / 1e6, (double)p99 / 1e6,
           (double)most / 1e6,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    const char *comma = "";
    for (int code = 0; code < 600; code++) {
        if (codes[code] > 0) {
            printf("%s\"%d\":%d", comma, code, codes[code]);
            comma = ",";
        }
    }
    printf("}}\n");
    for (int i = 0; i < events && !keys; i++) {
        if (acknowledged[i]) {
            printf("%d\n", i);
        }
    }
    return acknowledged_count == events || !keys ? 0 : 1;
}
