#pragma once
/* Reading one segment file: frames in order, judged but not repaired. Private to the room. */
#include <xxhash.h>

#include "commit/ledger_format.h"
#include "core/file.h"

struct weir_segment_reader {
    struct weir_file *file;
    char path[4096];
    uint64_t size; /* of the file, when it was opened */
    struct weir_opening opening;
    uint64_t max_record_bytes;
    uint8_t *window; /* owned; bytes [window_at, +window_size) of the file */
    uint64_t window_at;
    size_t window_size;
    size_t window_capacity;
    XXH3_state_t *hasher; /* owned */
};

enum weir_frame_verdict {
    WEIR_FRAME_GOOD,
    WEIR_FRAME_NONE,  /* zeros or the end of the file */
    WEIR_FRAME_BAD,   /* something that does not verify */
    WEIR_FRAME_NEWER, /* verifies, but carries flags this reader does not know */
};

/* Opens and reads the opening block. On WEIR_E_CORRUPT (bad opening) the reader is still usable
 * for weir_segment_follows; fini in every case. */
int weir_segment_open(struct weir_segment_reader *reader, struct weir_files *files,
                      const char *directory, const char *name, uint64_t max_record_bytes,
                      struct weir_error *err);
void weir_segment_fini(struct weir_segment_reader *reader);

/* Judges the frame at `offset`. `why` (a literal) says what is wrong with a bad one. The payload
 * is borrowed until the next call. */
int weir_segment_frame(struct weir_segment_reader *reader, uint64_t offset, uint64_t number,
                       const uint8_t log[WEIR_LEDGER_ID_BYTES], struct weir_hash128 previous,
                       enum weir_frame_verdict *verdict, struct weir_ledger_frame *out,
                       const char **why, struct weir_error *err);
/* Looks at every block from `offset` on: *found = where the header of a frame of this log with a
 * number above `number` is, else 0; *zero = all of it is zero. */
int weir_segment_follows(struct weir_segment_reader *reader, uint64_t offset, uint64_t number,
                         const uint8_t log[WEIR_LEDGER_ID_BYTES], uint64_t *found, bool *zero,
                         struct weir_error *err);
/* Number and previous hash as the frame header at `offset` says: to read on behind damage. */
int weir_segment_resume(struct weir_segment_reader *reader, uint64_t offset, uint64_t *number,
                        struct weir_hash128 *previous, struct weir_error *err);
void weir_segment_name(uint64_t first, char name[32]);
/* False when `name` is not a segment's. */
bool weir_segment_parse_name(const char *name, uint64_t *first);
