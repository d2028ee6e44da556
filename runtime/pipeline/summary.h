#pragma once
/* A dataset's counters as the JSON object of the run's summary. */
#include <jansson.h>

#include "pipeline/graph.h"

json_t *weir_dataset_json(const struct weir_dataset *dataset); /* a new reference */
