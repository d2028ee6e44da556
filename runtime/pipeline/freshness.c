#include "pipeline/freshness.h"

#include <string.h>

#include "core/clock.h"

/* An epoch's rows are taken to have come evenly between its first and its last batch. */
enum { POINTS = 16 };

void freshness_init(struct freshness *f) {
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->lock, NULL);
}

void freshness_fini(struct freshness *f) {
    pthread_mutex_destroy(&f->lock);
}

static uint64_t age_us(int64_t now_ns, int64_t due_ns) {
    return now_ns > due_ns ? (uint64_t)(now_ns - due_ns) / 1000 : 0;
}

void freshness_applied(struct freshness *f, uint64_t epoch, int64_t due_ns, int32_t rows) {
    if (rows <= 0) {
        return;
    }
    int64_t now = weir_clock_mono_ns();
    pthread_mutex_lock(&f->lock);
    weir_histogram_add_many(&f->applied, age_us(now, due_ns), (uint64_t)rows);
    struct freshness_epoch *e = &f->epochs[epoch % FRESHNESS_EPOCHS];
    if (e->epoch != epoch) {
        *e = (struct freshness_epoch){.epoch = epoch, .first_due_ns = due_ns};
    }
    e->first_due_ns = due_ns < e->first_due_ns ? due_ns : e->first_due_ns;
    e->last_due_ns = due_ns > e->last_due_ns ? due_ns : e->last_due_ns;
    e->rows += (uint64_t)rows;
    pthread_mutex_unlock(&f->lock);
}

static void tell(struct freshness *f, const struct freshness_epoch *e, int64_t now) {
    int64_t span = e->last_due_ns - e->first_due_ns;
    for (int64_t i = 0; i < POINTS; i++) {
        uint64_t rows = e->rows * (uint64_t)(i + 1) / POINTS - e->rows * (uint64_t)i / POINTS;
        weir_histogram_add_many(
            &f->committed, age_us(now, e->first_due_ns + span / POINTS * i + span / (2 * POINTS)),
            rows);
    }
}

void freshness_committed(struct freshness *f, int32_t sink, int32_t count, uint64_t epoch) {
    if (sink >= FRESHNESS_SINKS_MAX || count > FRESHNESS_SINKS_MAX) {
        return;
    }
    int64_t now = weir_clock_mono_ns();
    pthread_mutex_lock(&f->lock);
    f->done[sink] = epoch > f->done[sink] ? epoch : f->done[sink];
    uint64_t all = f->done[0];
    for (int32_t i = 1; i < count; i++) {
        all = f->done[i] < all ? f->done[i] : all;
    }
    if (all > f->told + FRESHNESS_EPOCHS) {
        f->told = all - FRESHNESS_EPOCHS;
    }
    while (f->told < all) {
        f->told++;
        const struct freshness_epoch *e = &f->epochs[f->told % FRESHNESS_EPOCHS];
        if (e->epoch == f->told) {
            tell(f, e, now);
        }
    }
    pthread_mutex_unlock(&f->lock);
}

struct freshness_of freshness_read(struct freshness *f, bool committed) {
    pthread_mutex_lock(&f->lock);
    const struct weir_histogram *h = committed ? &f->committed : &f->applied;
    struct freshness_of of = {.p50 = weir_histogram_percentile(h, 50),
                              .p99 = weir_histogram_percentile(h, 99),
                              .p999 = weir_histogram_percentile(h, 99.9),
                              .max = h->max,
                              .rows = h->total};
    pthread_mutex_unlock(&f->lock);
    return of;
}
