#pragma once
/* Deletion vectors (Delta protocol, "Deletion Vector Format"): which rows of a data file are
 * deleted, as a portable 64-bit Roaring bitmap. */
#include "lake/delta/snapshot.h"
#include "lake/store/store.h"

/* Reads the vector of a file with `rows` rows: `*bits` (owned by the caller, free) has bit i set
 * when row i is deleted. WEIR_E_CORRUPT when it is damaged or names rows the file does not have. */
int delta_dv_read(struct weir_delta_snapshot *snapshot, const struct weir_delta_dv *dv,
                  int64_t rows, uint8_t **bits, struct weir_error *err) WEIR_MUST_CHECK;

/* The store path of the file that holds the vector (storage type 'u'); NULL for inline and absolute
 * ones, damaged names, and without memory. The caller frees. */
char *delta_dv_path(const char *dir, const struct weir_delta_dv *dv);

/* Vectors of several files, gathered into one file of the table's folder. */
struct delta_dv_writer {
    struct weir_buffer bytes;
    char name[32]; /* of the file, as the log's pathOrInlineDv has it */
    char *path;    /* of the file in the store; owned */
};

int delta_dv_writer_init(struct delta_dv_writer *writer, const char *dir,
                         struct weir_error *err) WEIR_MUST_CHECK;
void delta_dv_writer_fini(struct delta_dv_writer *writer);
/* Adds the vector of a file with `rows` rows. `*dv` borrows the writer's name. */
int delta_dv_writer_add(struct delta_dv_writer *writer, const uint8_t *bits, int64_t rows,
                        struct weir_delta_dv *dv, struct weir_error *err) WEIR_MUST_CHECK;
/* Writes the file, durable on return. */
int delta_dv_writer_finish(struct delta_dv_writer *writer, struct weir_store *store,
                           const char *dir, struct weir_error *err) WEIR_MUST_CHECK;
