#pragma once
/* `partitions = "file"`: several files of one pattern read side by side, each with an event time of
 * its own. A partition is a place for one file at a time; when the file is read, time no longer
 * waits for it, and the next file of the list takes the place, as a partition that begins anew.
 * Private to the files source; one thread, in turns, so that what comes in which order is a
 * function of the files. */
#include "source/files/files.h"

struct file_set {
    struct files **places;
    int32_t count;
    int32_t turn; /* the place whose turn it is */
    bool *told;   /* by place: time waits for its file */
};

/* Places for `open` files at once; more where the positions have more. */
int file_set_open(struct weir_source *source, int32_t open, const struct weir_position *positions,
                  int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
void file_set_close(struct files *files);
int file_set_next(struct weir_source *source, int32_t partition, int32_t max_rows,
                  struct weir_source_batch **out, struct weir_error *err) WEIR_MUST_CHECK;
/* Replay: the place takes the file whose path has this hash. */
int file_set_assign(struct weir_source *source, int32_t partition, uint64_t item,
                    struct weir_error *err) WEIR_MUST_CHECK;
int file_set_serve(struct weir_source *source, struct source_outlet *outlet, bool *ended,
                   struct weir_error *err) WEIR_MUST_CHECK;
