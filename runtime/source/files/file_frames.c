/* Bytes → frames → rows. Lines are cut here; a decoder whose frames are no lines cuts them itself.
 */
#include <stdio.h>
#include <string.h>

#include "source/files/files.h"

/* --- lines → frames ----------------------------------------------------------------------- */

static bool is_blank(const uint8_t *p, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') {
            return false;
        }
    }
    return true;
}

/* Frames of the whole lines in data[begin..end), at most `max`. `last`: what follows the last line
 * end is a line too. *used: bytes up to the end of the last line seen. */
static int32_t split_lines(struct files *files, int32_t max, bool last, size_t *used) {
    const uint8_t *base = files->data + files->begin;
    const uint8_t *end = files->data + files->end;
    const uint8_t *p = base;
    int32_t count = 0;
    while (count < max && p < end) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        if (newline == NULL && !last) {
            break;
        }
        const uint8_t *stop = newline != NULL ? newline : end;
        size_t length = (size_t)(stop - p);
        if (length > 0 && p[length - 1] == '\r') {
            length--;
        }
        if (length > LINE_BYTES_MAX) {
            break; /* the oversized line's own path */
        }
        if (length > 0 && (*p == '{' || !is_blank(p, length))) {
            files->frames[count].start = (uint32_t)(p - base);
            files->frames[count].length = (uint32_t)length;
            files->frames[count].offset = (int64_t)(files->offset + (uint64_t)(p - base));
            count++;
        }
        p = newline != NULL ? newline + 1 : end;
    }
    *used = (size_t)(p - base);
    return count;
}

static int split(struct files *files, int32_t max, bool last, int32_t *count, size_t *used,
                 struct weir_error *err) {
    const struct weir_decoder_vtable *vtable = files->decoder->vtable;
    if (vtable->split == NULL) {
        *count = split_lines(files, max, last, used);
        return WEIR_OK;
    }
    struct weir_split work = {
        .bytes = files->data + files->begin,
        .size = files->end - files->begin,
        .offset = files->offset,
        .last = last,
        .frames = files->frames,
        .max = max,
    };
    int rc = vtable->split(files->decoder, &work, err);
    *count = work.count;
    *used = work.used;
    return rc != WEIR_OK && work.count > 0 ? WEIR_OK /* what is good goes first */ : rc;
}

int files_read_head(struct files *files, bool last, bool *whole, struct weir_error *err) {
    const struct weir_decoder_vtable *vtable = files->decoder->vtable;
    *whole = true;
    if (files->head_read) {
        return WEIR_OK;
    }
    size_t used = 0;
    if (vtable->begin != NULL) {
        int rc = vtable->begin(files->decoder, files->data + files->begin,
                               files->end - files->begin, last, &used, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    *whole = used != WEIR_SPLIT_MORE;
    if (*whole) {
        files_advance(files, used);
        files->head_read = true;
    }
    return WEIR_OK;
}

/* The line at data[begin] is longer than LINE_BYTES_MAX: keeps its beginning, drops the rest as it
 * comes. *complete: its end was found (or is the end of the file when `last`), and one reject
 * added. */
static int skip_oversized(struct files *files, bool last, XXH3_state_t *hash,
                          struct weir_reject_batch **rejects, bool *complete) {
    uint8_t *line = files->data + files->begin;
    uint8_t *rest = line + LINE_BYTES_MAX;
    size_t rest_bytes = files->end - files->begin - LINE_BYTES_MAX;
    uint8_t *newline = memchr(rest, '\n', rest_bytes);
    *complete = newline != NULL || last;
    if (!*complete) {
        files->is_skipping = true;
        files->skipped += rest_bytes;
        files->end = files->begin + LINE_BYTES_MAX;
        return WEIR_OK;
    }
    size_t tail = newline != NULL ? (size_t)(newline - rest) : rest_bytes;
    if (*rejects == NULL) {
        *rejects = weir_reject_batch_create(files->builder.pool);
    }
    char reason[128];
    snprintf(reason, sizeof(reason), "a line of %llu bytes; at most %d are read",
             (unsigned long long)(LINE_BYTES_MAX + files->skipped + tail), LINE_BYTES_MAX);
    int rc = *rejects == NULL
                 ? WEIR_E_LIMIT
                 : weir_reject_batch_add(*rejects, files->builder.rows, (int64_t)files->offset,
                                         line, LINE_BYTES_MAX, reason, "", -1);
    if (rc == WEIR_OK) {
        XXH3_64bits_update(hash, line, LINE_BYTES_MAX);
        size_t line_end = newline != NULL ? 1 : 0;
        files->begin += LINE_BYTES_MAX + tail + line_end;
        files->offset += LINE_BYTES_MAX + files->skipped + tail + line_end;
        files->skipped = 0;
        files->is_skipping = false;
    }
    return rc;
}

/* Hash of the frames' bytes, independent of how they were cut into blocks. */
static void hash_frames(struct files *files, int32_t count, XXH3_state_t *hash) {
    static const uint8_t line_end = '\n';
    const uint8_t *base = files->data + files->begin;
    const struct weir_frame *frames = files->frames;
    int32_t i = 0;
    while (i < count) {
        /* A run of lines with nothing but one \n between them is hashed in one go. */
        int32_t j = i + 1;
        while (j < count && frames[j].start == frames[j - 1].start + frames[j - 1].length + 1) {
            j++;
        }
        XXH3_64bits_update(hash, base + frames[i].start,
                           frames[j - 1].start + frames[j - 1].length - frames[i].start);
        XXH3_64bits_update(hash, &line_end, 1);
        i = j;
    }
}

int files_decode(struct files *files, int32_t max_rows, bool last, struct batch_work *work,
                 bool *more, struct weir_error *err) {
    bool whole;
    int head = files_read_head(files, last, &whole, err);
    *more = !whole;
    if (head != WEIR_OK || !whole) {
        return head;
    }
    while (work->taken < max_rows && !work->full) {
        if (!files->decoder->vtable->is_binary &&
            (files->is_skipping || files->end - files->begin > LINE_BYTES_MAX)) {
            const uint8_t *line = files->data + files->begin;
            if (files->is_skipping || memchr(line, '\n', LINE_BYTES_MAX + 1) == NULL) {
                bool complete;
                int rc = skip_oversized(files, last, work->hash, &work->rejects, &complete);
                if (rc != WEIR_OK || !complete) {
                    *more = true;
                    return rc;
                }
                work->taken++;
                continue;
            }
        }
        size_t used;
        int32_t room = max_rows - work->taken;
        int32_t count;
        int rc = split(files, room < FRAMES ? room : FRAMES, last, &count, &used, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (count == 0) {
            files_advance(files, used);
            *more = used == 0 || files->begin == files->end;
            if (*more) {
                return WEIR_OK;
            }
            continue;
        }
        files->data[files->end] = '\n'; /* what follows a last line without its own */
        int32_t consumed = 0;
        rc = weir_decoder_decode(files->decoder, files->data + files->begin, files->frames, count,
                                 &files->builder, &work->rejects, &consumed);
        work->full = consumed < count;
        work->taken += consumed;
        hash_frames(files, consumed, work->hash);
        /* Up to the next frame's first byte: blank lines between belong to those before them. */
        files_advance(files, consumed == count ? used : files->frames[consumed].start);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}
