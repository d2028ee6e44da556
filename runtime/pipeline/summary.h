#pragma once
/* A dataset's counters as the JSON object of the run's summary. */
#include "pipeline/graph/graph.h"

int weir_dataset_json(const struct weir_dataset *dataset, struct weir_buffer *out) WEIR_MUST_CHECK;
