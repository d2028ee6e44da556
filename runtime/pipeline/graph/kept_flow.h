#pragma once
/* A flow that outlives the call it came with: one reference of its batches, a copy of the rest. */
#include "pipeline/graph/graph.h"

struct kept_flow {
    struct weir_flow flow; /* batch NULL: no rows, the watermark alone */
    int32_t *sel;          /* flow.sel, the keeper's to change */
    void *block;
};

int flow_keep(struct kept_flow *kept, const struct weir_flow *flow) WEIR_MUST_CHECK;
void flow_let_go(struct kept_flow *kept);
