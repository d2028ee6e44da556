#include "pipeline/graph/kept_flow.h"

#include <stdlib.h>
#include <string.h>

static const int64_t *keep_by_row(const int64_t *from, int64_t **room, size_t rows) {
    int64_t *to = *room;
    if (from == NULL) {
        return NULL;
    }
    memcpy(to, from, rows * sizeof(*to));
    *room += rows;
    return to;
}

int flow_keep(struct kept_flow *kept, const struct weir_flow *flow) {
    *kept = (struct kept_flow){.flow = *flow};
    if (flow->batch == NULL) {
        return WEIR_OK;
    }
    size_t rows = (size_t)flow->batch->rows;
    size_t count = (size_t)flow->count;
    size_t name = flow->partition != NULL ? strlen(flow->partition) + 1 : 0;
    int64_t *room = malloc(2 * rows * sizeof(*room) + count * sizeof(*kept->sel) + name + 1);
    if (room == NULL) {
        kept->flow.batch = NULL;
        return WEIR_E_NOMEM;
    }
    kept->block = room;
    kept->flow.times_us = keep_by_row(flow->times_us, &room, rows);
    kept->flow.watermark_before_us = keep_by_row(flow->watermark_before_us, &room, rows);
    kept->flow.sel = kept->sel = memcpy(room, flow->sel, count * sizeof(*kept->sel));
    if (name > 0) {
        kept->flow.partition = memcpy(kept->sel + count, flow->partition, name);
    }
    weir_batch_ref(flow->batch);
    if (flow->origin != NULL) {
        weir_batch_ref(flow->origin);
    }
    return WEIR_OK;
}

void flow_let_go(struct kept_flow *kept) {
    if (kept->flow.batch != NULL) {
        weir_batch_unref(kept->flow.batch);
        weir_batch_unref(kept->flow.origin);
    }
    free(kept->block);
}
