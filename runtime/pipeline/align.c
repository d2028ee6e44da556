/* Sources read in step by event time: one that is further on than another by more than its
 * `alignment` is not asked for rows, so that what waits for the other (windows, joins) stays small
 * whatever the order and size of what is read. */
#include <string.h>

#include "pipeline/internal.h"

enum { ALIGNMENT_US = 60000000 /* of sources that end, where none is said */ };

static int64_t alignment_of(const struct weir_pipeline *p, int32_t s) {
    int64_t said = p->plan->sources[s].alignment_us;
    return said != WEIR_ALIGNMENT_UNSAID ? said : p->options.until_end ? ALIGNMENT_US : -1;
}

static bool takes_part(const struct weir_pipeline *p, int32_t s) {
    return p->sources[s].started && alignment_of(p, s) >= 0;
}

/* How far a source has come: the least of its partitions that may bring more. *any: there is one.
 */
static int64_t time_of(struct weir_pipeline *p, int32_t s, bool *any) {
    const struct source_state *source = &p->sources[s];
    int64_t least = WEIR_WATERMARK_END;
    *any = source->partition_count == 0 && weir_source_lanes(source->source) > 0;
    least = *any ? WEIR_WATERMARK_NONE : least;
    for (int32_t i = 0; i < source->partition_count; i++) {
        bool counts;
        int64_t time = weir_graph_time_of(p->graph, s, source->partitions[i].name, &counts);
        if (counts && !source->partitions[i].ended) {
            *any = true;
            least = time < least ? time : least;
        }
    }
    return least;
}

/* The source furthest behind of those that hold others; -1: none does. */
static int32_t last_one(struct weir_pipeline *p, int64_t *time_us) {
    int32_t last = -1;
    for (int32_t s = 0; s < p->source_count; s++) {
        bool any = false;
        int64_t time = takes_part(p, s) && weir_graph_timed(p->graph, s) ? time_of(p, s, &any) : 0;
        /* Before its first row one that may never bring any holds nobody. */
        any = any && (time != WEIR_WATERMARK_NONE || p->options.until_end);
        if (any && (last < 0 || time < *time_us)) {
            last = s;
            *time_us = time;
        }
    }
    return last;
}

/* A partition that is not asked for rows is not getting idle. */
static int block(struct weir_pipeline *p, int32_t s, bool blocked, struct weir_error *err) {
    const struct source_state *source = &p->sources[s];
    int rc = WEIR_OK;
    bool dirty = p->dirty;
    pipeline_move_clock(p);
    for (int32_t i = 0; i < source->partition_count && rc == WEIR_OK; i++) {
        struct weir_message message = {
            .kind = WEIR_MESSAGE_IDLE,
            .clock_us = p->clock_us,
            .subject = p->plan->sources[s].name,
            .subject_size = strlen(p->plan->sources[s].name),
            .partition = (uint32_t)i,
            .rows = blocked,
        };
        rc = schedule_add(p, &message);
        rc = rc == WEIR_OK ? weir_graph_block(p->graph, s, source->partitions[i].name, blocked, err)
                           : weir_error_set(err, rc, "schedule: out of memory");
    }
    p->dirty = dirty; /* no reason for an epoch */
    return rc;
}

int align_sources(struct weir_pipeline *p, struct weir_error *err) {
    int32_t parts = 0;
    for (int32_t s = 0; s < p->source_count; s++) {
        parts += takes_part(p, s);
    }
    int64_t behind_us = 0;
    int32_t last = parts > 1 ? last_one(p, &behind_us) : -1;
    int rc = WEIR_OK;
    for (int32_t s = 0; s < p->source_count && rc == WEIR_OK; s++) {
        struct source_state *source = &p->sources[s];
        bool any = false;
        int64_t time = last >= 0 && last != s && takes_part(p, s) ? time_of(p, s, &any) : 0;
        bool waits = any && time != WEIR_WATERMARK_NONE &&
                     (behind_us == WEIR_WATERMARK_NONE || time - behind_us > alignment_of(p, s));
        source->waits_for = waits ? last : -1;
        source->waits_us = waits && behind_us != WEIR_WATERMARK_NONE ? time - behind_us : 0;
        if (waits != source->waits) {
            source->waits = waits;
            rc = weir_graph_idles(p->graph) ? block(p, s, waits, err) : WEIR_OK;
        }
    }
    return rc;
}

int align_why(const struct weir_pipeline *p, struct weir_buffer *out) {
    int rc = WEIR_OK;
    for (int32_t s = 0; s < p->source_count && rc == WEIR_OK; s++) {
        const struct source_state *source = &p->sources[s];
        if (source->waits) {
            const char *other = p->plan->sources[source->waits_for].name;
            rc = source->waits_us > 0
                     ? weir_buffer_printf(
                           out, "source %s waits for %s: it is %.1f s of event time further on\n",
                           p->plan->sources[s].name, other, (double)source->waits_us / 1e6)
                     : weir_buffer_printf(out,
                                          "source %s waits for %s, which has brought no rows yet\n",
                                          p->plan->sources[s].name, other);
        }
    }
    return rc;
}
