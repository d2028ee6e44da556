#pragma once
/* Values of fixed width as numbers of the same order, for what sorts rows of any type alike. */
#include "batch/batch.h"

/* Null is 0. Decimals past 64 bits are put at the ends. Not for texts, bytes and nested types. */
uint64_t delta_order_key(enum weir_type type, const struct weir_column *column, int64_t row);
