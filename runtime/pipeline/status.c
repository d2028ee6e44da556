/* The files through which other processes hear of a running pipeline and ask of it: status.json,
 * written by a thread of its own so that the loop waits for no disk, and requests (rollback,
 * takeover). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/thread.h"
#include "pipeline/internal.h"

enum { STATUS_EVERY_MS = 500, STATUS_BYTES_MAX = 16 << 20 };

struct status_writer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct weir_buffer text; /* the loop's while `full` is false, the thread's while it is true */
    bool full;
    bool stop;
    char path[1200];
    char temporary[1210];
};

/* Information only: a full disk must not stop the pipeline here. */
static void write_file(const struct status_writer *w) {
    FILE *file = fopen(w->temporary, "w");
    if (file == NULL) {
        return;
    }
    bool written = fwrite(w->text.data, 1, w->text.size, file) == w->text.size;
    written = fclose(file) == 0 && written;
    if (!written || rename(w->temporary, w->path) != 0) {
        unlink(w->temporary);
    }
}

static void *run(void *argument) {
    struct status_writer *w = argument;
    weir_thread_name("status", -1);
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        if (!w->full) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        write_file(w);
        pthread_mutex_lock(&w->lock);
        w->full = false;
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int status_writer_create(struct weir_pipeline *p, struct status_writer **out,
                         struct weir_error *err) {
    struct status_writer *w = calloc(1, sizeof(*w));
    *out = NULL;
    if (w == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "status: out of memory");
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    weir_buffer_init(&w->text, STATUS_BYTES_MAX);
    snprintf(w->path, sizeof(w->path), "%s/status.json", p->ledger_path);
    snprintf(w->temporary, sizeof(w->temporary), "%s.tmp", w->path);
    int failure = weir_thread_start(&w->thread, run, w);
    if (failure != 0) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return weir_error_system(err, WEIR_E_ENVIRONMENT, failure, "status: cannot start thread");
    }
    *out = w;
    return WEIR_OK;
}

static void stop(struct status_writer *w) {
    if (w->stop) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
}

void status_writer_destroy(struct status_writer *w) {
    if (w == NULL) {
        return;
    }
    stop(w);
    weir_buffer_fini(&w->text);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void pipeline_write_status(struct weir_pipeline *p) {
    struct status_writer *w = p->status_writer;
    int64_t now = weir_clock_mono_ns();
    if (now - p->last_status_ns < STATUS_EVERY_MS * INT64_C(1000000)) {
        return;
    }
    if (p->options.observe != NULL) {
        p->options.observe(p->options.context, p);
    }
    pthread_mutex_lock(&w->lock);
    bool busy = w->full;
    pthread_mutex_unlock(&w->lock);
    if (busy) {
        return;
    }
    p->last_status_ns = now;
    weir_buffer_clear(&w->text);
    if (pipeline_status_text(p, &w->text) != WEIR_OK) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->full = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void pipeline_end_status(struct weir_pipeline *p) {
    struct status_writer *w = p->status_writer;
    stop(w);
    weir_buffer_clear(&w->text);
    if (pipeline_status_text(p, &w->text) == WEIR_OK) {
        write_file(w);
    }
}

bool pipeline_take_request(struct weir_pipeline *p, const char *name) {
    char path[1200];
    snprintf(path, sizeof(path), "%s/%s.request", p->ledger_path, name);
    return unlink(path) == 0;
}
