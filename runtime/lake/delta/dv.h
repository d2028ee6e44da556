#pragma once
/* Deletion vectors (Delta protocol, "Deletion Vector Format"): which rows of a data file are
 * deleted, as a portable 64-bit Roaring bitmap. */
#include "lake/delta/actions.h"
#include "lake/store/store.h"

/* Reads the vector of a file with `rows` rows: `*bits` (owned by the caller, free) has bit i set
 * when row i is deleted. WEIR_E_CORRUPT when it is damaged or names rows the file does not have. */
int delta_dv_read(struct weir_store *store, const char *dir, const struct weir_delta_dv *dv,
                  int64_t rows, uint8_t **bits, struct weir_error *err) WEIR_MUST_CHECK;
