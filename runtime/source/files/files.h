#pragma once
/* One partition of the files source while it reads, shared by its parts: positions
 * (file_position.c), bytes to frames to rows (file_frames.c), which file comes next (files.c). */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "source/files/file_list.h"
#include "source/files/file_stream.h"
#include "source/files/file_watch.h"
#include "source/internal.h"

enum {
    READ_BYTES = 512 * 1024,
    LINE_BYTES_MAX = WEIR_SPLIT_BYTES_MAX, /* a longer one is rejected whole */
    FRAMES = WEIR_BATCH_ROWS_MAX,
    HEAD_BYTES = 1024, /* of a file's text, hashed to know it again */
    BATCH_BYTES_MAX = 16 << 20,
    POLL_MS = 100,
    OPEN_FILES = 16, /* side by side, where nothing else is said */
    OPEN_FILES_MAX = 256,
    LIST_MS = 1000, /* where changes are watched */
    SETTLE_US = 1000000,
    POSITION_VERSION = 1,
    POSITION_FIXED_BYTES = 40,
    PATH_BYTES_MAX = 4096,
};

struct files {
    struct file_list list;
    struct file_place *place; /* of the list, or of the whole set's; NULL: files of the machine */
    int poll_ms;              /* between listings, where no folder is watched */
    struct file_set *set;     /* files side by side: then this one only has their list */
    int32_t open;             /* how many of them; 0: one after the other */
    bool in_set;              /* it is one of them: its files are given to it */
    bool gives_way;           /* its file may be done although it might grow */
    struct weir_decoder *decoder;
    uint32_t columns_seen; /* of source->columns_changed */
    struct weir_batch_builder builder;
    bool has_builder;
    struct weir_frame *frames;

    /* the file at hand */
    char *path; /* NULL between files */
    struct file_stream *stream;
    uint64_t offset; /* of data[begin] in its text */
    uint8_t head[HEAD_BYTES];
    uint32_t head_size;
    bool at_end;      /* the last read gave nothing */
    bool head_read;   /* what comes before the frames (a header) is behind us */
    uint64_t skipped; /* bytes of an oversized line dropped after its first LINE_BYTES_MAX */
    bool is_skipping;

    char *topic; /* path of the last file begun: a batch's rows are of one file */

    uint8_t *data; /* data[begin..end) is read and not decoded */
    size_t capacity;
    size_t begin;
    size_t end;
    bool ended;
    struct file_watch *watch; /* of a run that follows; NULL else */
    int64_t settle_us;        /* a file without an end of line stays so for that long */
    int failed;               /* what was read before goes first, then this */
    struct weir_error failure;
};

/* 0 'f' · 1 version · 2 flags (1: a file is open) · 3 zero · 4 u32 files read · 8 u64 offset ·
 * 16 u64 head hash · 24 u32 head bytes · 28 u32 path bytes · 32 u64 zero · 40 path · hashes */
struct files_position {
    const uint8_t *path;
    const uint8_t *done;
    uint64_t offset;
    uint64_t head_hash;
    uint32_t done_count;
    uint32_t head_bytes;
    uint32_t path_bytes;
};

bool files_parse_position(const struct weir_position *position, struct files_position *out);
uint32_t files_position_bytes(const struct files *files);
void files_write_position(const struct files *files, uint8_t *p);
int files_describe(const struct weir_position *position, struct weir_buffer *out);

/* files.c: what reading takes, of one that reads files itself; `source` says decoder, schema and
 * batches. */
int files_prepare(struct weir_source *source, struct files *files,
                  struct weir_error *err) WEIR_MUST_CHECK;
void files_destroy(struct files *files); /* NULL is fine */
/* Takes up the position; the file it names is checked and opened at its byte. */
int files_resume(struct files *files, const struct weir_position *position,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* Opens the file; takes the path. */
int files_start(struct files *files, char *path, struct weir_error *err) WEIR_MUST_CHECK;
int files_next(struct weir_source *source, struct files *files, int32_t partition, int32_t max_rows,
               struct weir_source_batch **out, struct weir_error *err) WEIR_MUST_CHECK;

struct batch_work {
    XXH3_state_t *hash;
    struct weir_reject_batch *rejects;
    int32_t taken; /* rows and rejects */
    bool full;
};

/* Takes the head of a file out of what was read of it; false: it is not whole yet. */
int files_read_head(struct files *files, bool last, bool *whole, struct weir_error *err);
/* Decodes what whole frames the buffer holds. *more: it has none left. `last`: what follows the
 * last line end is a line too. */
int files_decode(struct files *files, int32_t max_rows, bool last, struct batch_work *work,
                 bool *more, struct weir_error *err);

static inline void files_advance(struct files *files, size_t bytes) {
    files->begin += bytes;
    files->offset += bytes;
}
